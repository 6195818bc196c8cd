// What may stand at a place of a job file, by its JSON schema.

const NESTED = /^(\s*)([\w.-]+):\s*(#.*)?$/;
const MOST = 12;

/** The object of a schema, through references and null. */
function object(schema, root) {
  if (!schema) return null;
  if (schema.$ref) return object(root.$defs[schema.$ref.split("/").at(-1)], root);
  if (schema.properties) return schema;
  const some = [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])];
  return some.map((one) => object(one, root)).find(Boolean) ?? null;
}

/** Values that a key may have, where there are only a few. */
function values(schema, root) {
  if (!schema) return [];
  if (schema.$ref) return values(root.$defs[schema.$ref.split("/").at(-1)], root);
  if (schema.enum) return schema.enum;
  if (schema.const !== undefined) return [schema.const];
  if (schema.type === "boolean") return [true, false];
  return [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap((one) => values(one, root));
}

/** Keys that a line lies under, outermost first. */
function path(lines, indent) {
  const found = [];
  let least = indent;
  for (const line of [...lines].reverse()) {
    const [, space, key] = NESTED.exec(line) ?? [];
    if (key && space.length < least) {
      found.unshift(key);
      least = space.length;
    }
  }
  return found;
}

/**
 * What may be written at a cursor: {from, options: [{insert, name, about}]}; from: where the word begins that it takes
 * the place of.
 */
export function complete(text, cursor, root) {
  const before = text.slice(0, cursor);
  const start = before.lastIndexOf("\n") + 1;
  const line = before.slice(start);
  const [, space, key, value, word] = /^(\s*)(?:([\w-]+)(:\s*))?([\w.-]*)$/.exec(line) ?? [];
  if (space === undefined) return { from: cursor, options: [] };
  const inside = path(before.slice(0, start).split("\n").slice(0, -1), space.length);
  let here = object(root, root);
  for (const one of inside) here = object(here?.properties?.[one], root);
  const from = cursor - word.length;
  if (!here) return { from, options: [] };
  if (value) {
    const fit = values(here.properties[key], root).map(String).filter((one) => one.startsWith(word) && one !== word && one !== "null");
    return { from, options: fit.slice(0, MOST).map((one) => ({ insert: one, name: one, about: "" })) };
  }
  const lines = text.split("\n");
  const has = new Set(lines.map((one) => new RegExp(`^\\s{${space.length}}([\\w-]+):`).exec(one)?.[1]));
  const fit = Object.entries(here.properties).filter(([name]) => name.startsWith(word) && (name === word || !has.has(name)));
  const options = fit.map(([name, schema]) => {
    const nested = object(schema, root) && !values(schema, root).length && schema.type !== "string" && !schema.anyOf;
    return { name, insert: nested ? `${name}:\n${space}  ` : `${name}: `, about: schema.description ?? "" };
  });
  return { from, options: options.slice(0, word ? MOST : 40) };
}
