// Requests to the server: JSON, one shape of error, and who is signed in.
import { signal, useState, useEffect, useRef } from "./lib.js";
import { query } from "./route.js";

/** {user, until}; null: nobody is signed in; undefined: not known yet. */
export const session = signal(undefined);

/** What the server refused, or that it did not answer. kind: as in its JSON, or "away". */
class ApiError extends Error {
  constructor(status, kind, message, faults = []) {
    super(message);
    Object.assign(this, { status, kind, faults });
  }
}

/** The JSON of an answer. Throws ApiError. */
export async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, "away", "The server does not answer. It may be restarting: this page tries again by itself.");
  }
  if (answer.status === 204) return null;
  const value = await answer.json().catch(() => null);
  if (answer.ok) return value;
  if (answer.status === 401 && path !== "/session") session.value = null;
  const { kind = "internal", message = `status ${answer.status}`, faults = [] } = value?.error ?? {};
  throw new ApiError(answer.status, kind, message, faults);
}

export const get = (path, params = {}) => ask("GET", path + query(params));
export const post = (path, body = undefined) => ask("POST", path, body);

/** Who is signed in, asked of the server. */
export async function look() {
  const found = await ask("GET", "/session");
  session.value = found.user === null ? null : found;
}

export async function signIn(body) {
  session.value = await ask("POST", "/session", body);
}

export async function signOut() {
  await ask("DELETE", "/session");
  session.value = null;
}

/** {data, error, again}: what load() gives, anew when keys change, and each `everyMs` while the page is looked at. */
export function useLoad(load, keys, everyMs = 0) {
  const [state, setState] = useState({ data: undefined, error: null });
  const turn = useRef(0);
  const again = () => {
    const mine = ++turn.current;
    return Promise.resolve(load()).then(
      (data) => mine === turn.current && setState({ data, error: null }),
      (error) => mine === turn.current && setState((before) => ({ ...before, error })),
    );
  };
  useEffect(() => {
    setState({ data: undefined, error: null });
    again();
    if (!everyMs) return () => void turn.current++;
    const timer = setInterval(() => document.hidden || again(), everyMs);
    return () => (clearInterval(timer), void turn.current++);
  }, keys);
  return { ...state, again };
}
