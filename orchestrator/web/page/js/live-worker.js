// The one stream of this browser, shared by all of its pages; closed once none is left.
import { openSource } from "./live-source.js";
import { apply } from "./live-state.js";

const GONE_MS = 30000; // a page that was ended without a word; those in the background speak less often
const ports = new Map();
let source = null;
let state = null;
let link = "connecting";

function tell(message) {
  if (message.link) link = message.link;
  if (message.name === "snapshot") state = message.value;
  if (message.name === "delta" && state) state = apply(state, message.value);
  for (const port of ports.keys()) port.postMessage(message);
}

function leave(port) {
  ports.delete(port);
  if (ports.size) return;
  source?.close();
  source = state = null;
}

onconnect = ({ ports: [port] }) => {
  ports.set(port, Date.now());
  port.onmessage = ({ data }) => (data === "gone" ? leave(port) : ports.set(port, Date.now()));
  port.start();
  if (!source) source = openSource(tell);
  else if (state) port.postMessage({ link, name: "snapshot", value: state });
};

setInterval(() => {
  for (const [port, seen] of ports) if (Date.now() - seen > 6 * GONE_MS) leave(port);
}, GONE_MS);
