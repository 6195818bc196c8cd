// Deltas of the stream: docs/watching.md has their shape.

/** The state after a delta. Only what changed is new: the rest is the same object. */
export function apply(state, delta) {
  const made = { ...state };
  for (const [name, change] of Object.entries(delta)) {
    if ("all" in change) {
      made[name] = change.all;
      continue;
    }
    const table = { ...made[name] };
    for (const [column, one] of Object.entries(change.set)) {
      if ("all" in one) {
        table[column] = one.all;
        continue;
      }
      const values = table[column].slice();
      one.at.forEach((place, index) => (values[place] = one.to[index]));
      table[column] = values;
    }
    made[name] = table;
  }
  return made;
}
