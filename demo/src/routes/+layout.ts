export const prerender = true;
export const trailingSlash = "always"; // folders with an index.html: any static server serves them
