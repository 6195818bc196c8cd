// Signing in with the server's token.
import { html, useState } from "../lib.js";
import { signIn } from "../api.js";
import { Fault } from "../parts.js";

const NAME = "tuneyard-user";

export function SignIn({ error = null }) {
  const [state, setState] = useState({ error: null, busy: false, tried: false });
  const send = (event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    const user = given.get("user").trim();
    localStorage.setItem(NAME, user);
    setState({ error: null, busy: true, tried: true });
    signIn({ token: given.get("token").trim(), user }).catch((failed) => setState({ error: failed, busy: false, tried: true }));
  };
  return html`<main class="sign-in">
    <h1>Sign in to tuneyard</h1>
    <${Fault} error=${state.tried ? state.error : error} />
    <form class="card" onSubmit=${send}>
      <label>Your name <input name="user" autocomplete="username" maxlength="100" value=${localStorage.getItem(NAME) ?? ""} />
        <span class="quiet small">what you do here is noted under it</span></label>
      <label>Token <input name="token" type="password" autocomplete="current-password" required />
        <span class="quiet small">that of the server: in <code>config.json</code> of its home, or from whoever runs it</span></label>
      <button class="main" disabled=${state.busy}>Sign in</button>
    </form>
    <p class="quiet small">On the server's machine <code>tuneyard web</code> prints a link that signs in by itself.</p>
  </main>`;
}
