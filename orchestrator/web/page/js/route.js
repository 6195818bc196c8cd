// Where the page is: all of its state stands in the address, so that every view is a link.
import { signal } from "./lib.js";

const read = () => Object.fromEntries(new URLSearchParams(location.search));

/** The parameters of the address; `view` is the page. */
export const route = signal(read());
addEventListener("popstate", () => (route.value = read()));

/** The address of a view. Empty parameters are left out. */
export function href(view, params = {}) {
  const kept = Object.entries({ view, ...params }).filter(([, value]) => value !== "" && value != null);
  return `?${new URLSearchParams(kept)}`;
}

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
