import { Parameter } from "../tensor/params.ts";

/** A tree of parameters. Subclasses hold parameters, modules, and arrays of modules as plain fields. */
export abstract class Module {
  /** Every parameter below this module, named by its path ("blocks.0.norm1.weight"), in order of declaration. */
  parameters(path = ""): Parameter[] {
    const found: Parameter[] = [];
    for (const [key, value] of Object.entries(this)) {
      const name = path ? `${path}.${key}` : key;
      if (value instanceof Parameter) {
        value.name = name;
        found.push(value);
      } else if (value instanceof Module) {
        found.push(...value.parameters(name));
      } else if (Array.isArray(value)) {
        value.forEach((item, i) => {
          if (item instanceof Module) found.push(...item.parameters(`${name}.${i}`));
        });
      }
    }
    return found;
  }
}
