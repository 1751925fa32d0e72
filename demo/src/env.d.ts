/// <reference types="vite/client" />

/** Text pages, which mdsvex makes components of. */
declare module "*.md" {
  const text: import("svelte").Component;
  export default text;
}
