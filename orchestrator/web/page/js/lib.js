// What every module here is written with: Preact's elements in tagged templates, and signals.
import { h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export { render };
export { signal } from "../vendor/signals.js";
export { useState, useEffect, useRef, useMemo } from "../vendor/hooks.js";
export const html = htm.bind(h);
