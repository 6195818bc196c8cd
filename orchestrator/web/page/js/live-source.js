// One EventSource, opened again after every cut; what comes is handed on as {name, value} and {link}.

const AGAIN_MS = 2000;
const SILENT_MS = 25000; // the server says something each 10 s: a stream that is silent for longer is dead

export function openSource(tell) {
  let source = null;
  let timer = 0;
  let watch = 0;
  let closed = false;

  const heard = () => {
    clearTimeout(watch);
    watch = setTimeout(reopen, SILENT_MS);
  };
  const reopen = () => {
    source?.close();
    tell({ link: "cut" });
    clearTimeout(timer);
    if (!closed) timer = setTimeout(open, AGAIN_MS);
  };
  const open = () => {
    source = new EventSource("/api/v1/stream");
    heard();
    source.onopen = () => (heard(), tell({ link: "live" }));
    // A cut is mended by the browser itself, with the id of the last event; a refusal (401, 429) is not.
    source.onerror = () => (source.readyState === EventSource.CLOSED ? reopen() : tell({ link: "cut" }));
    for (const name of ["snapshot", "delta", "beat", "trouble"]) {
      source.addEventListener(name, ({ data }) => (heard(), tell({ name, value: JSON.parse(data) })));
    }
  };
  open();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      clearTimeout(watch);
      source?.close();
    },
  };
}
