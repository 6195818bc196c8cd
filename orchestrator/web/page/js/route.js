// Where the page is: all of its state stands in the address, so that every view is a link.
import { signal } from "./lib.js";

const read = () => Object.fromEntries(new URLSearchParams(location.search));

/** The parameters of the address; `view` is the page. */
export const route = signal(read());
addEventListener("popstate", () => (route.value = read()));

/** What the address has for a name, if it is one of these. options: [[value, word]]. */
export const picked = (name, options, otherwise) => (options.some(([one]) => one === route.value[name]) ? route.value[name] : otherwise);

/** Parameters as they stand in an address, a question mark before them; those that are empty are left out. */
export function query(params) {
  const kept = Object.entries(params).filter(([, value]) => value !== "" && value != null);
  return kept.length ? `?${new URLSearchParams(kept)}` : "";
}

/** The address of a view. */
export const href = (view, params = {}) => query({ view, ...params });

/** Go to a view; a page's title and focus follow as for a link. */
export function go(view, params = {}) {
  history.pushState(null, "", href(view, params));
  route.value = read();
  scrollTo(0, 0);
}

/** Change parameters of this view without a new entry in the history. */
export function set(params) {
  const { view, ...now } = { view: "fleet", ...route.value };
  history.replaceState(null, "", href(view, { ...now, ...params }));
  route.value = read();
}

// Links within the page don't load it again.
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='?']");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  route.value = read();
  scrollTo(0, 0);
});
