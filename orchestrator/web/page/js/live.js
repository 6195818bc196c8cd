// The fleet as it is now, from the one stream that this browser has.
import { signal } from "./lib.js";
import { apply } from "./live-state.js";

/** The state (GET /api/v1/fleet), null until there is one. */
export const fleet = signal(null);
/** connecting, live or cut; trouble: why the server can't read the fleet, "" where it can. */
export const link = signal("connecting");
export const trouble = signal("");
/** Whether the server has another version of this page. */
export const outdated = signal(false);

const BUILD = document.querySelector("meta[name=build]").content;
let stop = null;

/** Follow the fleet until unfollow(). One stream for all pages of this browser, where it can share a worker. */
export function follow() {
  if (stop) return;
  if (typeof SharedWorker === "function") {
    const worker = new SharedWorker(new URL("./live-worker.js", import.meta.url), { name: `tuneyard ${BUILD}`, type: "module" });
    worker.port.onmessage = ({ data }) => take(data);
    worker.port.start();
    const alive = setInterval(() => worker.port.postMessage("here"), 5000);
    const leave = () => worker.port.postMessage("gone");
    addEventListener("pagehide", leave);
    stop = () => (clearInterval(alive), removeEventListener("pagehide", leave), leave(), worker.port.close());
  } else {
    let ended = false;
    const source = { close: () => {} };
    import("./live-source.js").then(({ openSource }) => ended || Object.assign(source, openSource(take)));
    stop = () => ((ended = true), source.close());
  }
}

export function unfollow() {
  stop?.();
  stop = null;
  fleet.value = null;
  link.value = "connecting";
}

function take(message) {
  if (message.link) link.value = message.link;
  if (message.name === "trouble") trouble.value = message.value.text;
  else if (message.name) trouble.value = "";
  if (message.name === "snapshot") fleet.value = message.value;
  if (message.name === "delta" && fleet.value) fleet.value = apply(fleet.value, message.value);
  if (message.name === "beat" && fleet.value && message.value.at) fleet.value = { ...fleet.value, at: message.value.at };
  const build = message.value?.build;
  if (message.name === "snapshot" && build && build !== BUILD) outdated.value = true;
}
