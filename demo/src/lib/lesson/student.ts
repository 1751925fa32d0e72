/** Who sits here, in each class: kept in this browser alone. */
import * as v from "valibot";
import { studentSchema } from "./class-seed.ts";

const place = (group: string) => `webrlhf/class/${group}`;

/** Who was said to sit here; null: nobody. */
export function rememberedStudent(group: string): string | null {
  try {
    const said = localStorage.getItem(place(group));
    return v.is(studentSchema, said) ? said : null;
  } catch {
    return null; // a browser that keeps nothing asks again
  }
}

/** Keeps it; an empty name forgets. */
export function rememberStudent(group: string, student: string): void {
  try {
    if (student) localStorage.setItem(place(group), student);
    else localStorage.removeItem(place(group));
  } catch {
    // as above
  }
}
