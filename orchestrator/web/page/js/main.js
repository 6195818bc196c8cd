// The shell: who is signed in, where the page is, and what is told wherever it is.
import { html, render, useEffect, useRef, useState } from "./lib.js";
import { session, look, signIn, signOut } from "./api.js";
import { fleet, follow, link, outdated, trouble, unfollow } from "./live.js";
import { href, route } from "./route.js";
import { time } from "./format.js";
import { isDark } from "./palette.js";
import { Fault } from "./parts.js";
import { SignIn } from "./pages/sign-in.js";
import { Fleet } from "./pages/fleet.js";
import { Card } from "./pages/card.js";
import { Queue } from "./pages/queue.js";
import { Jobs } from "./pages/jobs.js";
import { Job } from "./pages/job.js";
import { Compare } from "./pages/compare.js";
import { Plan } from "./pages/plan.js";
import { Accuracy } from "./pages/accuracy.js";
import { Usage } from "./pages/usage.js";

// view: [component, word in the navigation, the view that it belongs to]
const VIEWS = {
  fleet: [Fleet, "Fleet"],
  queue: [Queue, "Queue"],
  jobs: [Jobs, "Jobs"],
  plan: [Plan, "Plan"],
  accuracy: [Accuracy, "Accuracy"],
  usage: [Usage, "Usage"],
  card: [Card, "", "fleet"],
  job: [Job, "", "jobs"],
  compare: [Compare, "", "jobs"],
};

/** Whether it is dark, and what turns it; theme.js has set it at first. */
function useTheme() {
  const [dark, setDark] = useState(isDark());
  const turn = () => {
    const theme = dark ? "light" : "dark";
    localStorage.setItem("tuneyard-theme", theme);
    document.documentElement.dataset.theme = theme;
    setDark(!dark);
  };
  return [dark, turn];
}

function Live() {
  const cut = link.value === "cut";
  const told = trouble.value || (cut ? "The stream is cut; it is opened again by itself." : "");
  return html`<span class=${`live ${cut || trouble.value ? "cut" : ""}`} role="status" title=${told}>
    <i aria-hidden="true"></i>${trouble.value ? "server in trouble" : cut ? "cut, trying again" : fleet.value ? html`<span class="wide">live, ${time(fleet.value.at)}</span>` : "connecting"}
  </span>`;
}

function Top({ view, dark, turn }) {
  const now = VIEWS[view]?.[2] ?? view;
  return html`<header class="top">
    <a class="name" href=${href("fleet")}><img src=${new URL("../icon.svg", import.meta.url).pathname} alt="" />tuneyard</a>
    <nav aria-label="Pages">
      ${Object.entries(VIEWS).filter(([, [, word]]) => word).map(([name, [, word]]) => html`<a href=${href(name)} aria-current=${name === now ? "page" : undefined}>${word}</a>`)}
    </nav>
    <div class="right">
      <${Live} />
      <button class="plain small" onClick=${turn}>${dark ? "Light" : "Dark"}</button>
      <span class="quiet small user">${session.value.user}</span>
      <button class="plain small" onClick=${signOut}>Sign out</button>
    </div>
  </header>`;
}

/** What a page may throw must not take the navigation with it. */
function Page({ view }) {
  const [View, word] = VIEWS[view] ?? [];
  const main = useRef();
  const first = useRef(true);
  const key = JSON.stringify([view, route.value.job, route.value.card, route.value.group]);
  useEffect(() => {
    document.title = `${main.current.querySelector("h1")?.textContent ?? word ?? "tuneyard"} · tuneyard`;
    if (!first.current) main.current.focus({ preventScroll: true });
    first.current = false;
  }, [key]);
  return html`<main id="main" tabindex="-1" ref=${main} key=${key}>
    ${View ? html`<${View} ...${route.value} />` : html`<div class="card"><h1>There is no such page</h1><p><a href=${href("fleet")}>The fleet</a> is where to begin.</p></div>`}
    ${trouble.value && html`<div class="box bad" role="alert">${trouble.value}. What is shown is from before.</div>`}
  </main>`;
}

function App() {
  const [dark, turn] = useTheme();
  const [error, setError] = useState(null);
  useEffect(() => {
    begin().catch(setError);
  }, []);
  const signedIn = Boolean(session.value);
  useEffect(() => {
    if (!signedIn) return;
    follow();
    return unfollow;
  }, [signedIn]);
  if (session.value === undefined) return error ? html`<main><${Fault} error=${error} again=${() => location.reload()} /></main>` : html`<p class="quiet pad" role="status">Loading …</p>`;
  if (session.value === null) return html`<${SignIn} error=${error} />`;
  const view = route.value.view ?? "fleet";
  return html`<a class="skip" href="#main">To the content</a>
    <${Top} view=${view} dark=${dark} turn=${turn} />
    <${Page} view=${view} />
    ${outdated.value && html`<div class="notice" role="alert"><span>tuneyard was upgraded. This page is of the version before.</span><button onClick=${() => location.reload()}>Reload</button></div>`}`;
}

/** A link that signs in once (`tuneyard up`, `tuneyard web`), else the cookie. */
async function begin() {
  const ticket = new URLSearchParams(location.hash.slice(1)).get("ticket");
  if (!ticket) return look();
  history.replaceState(null, "", location.pathname + location.search);
  try {
    await signIn({ ticket });
  } catch (error) {
    await look(); // whoever is signed in already stays so
    if (!session.value) throw error;
  }
}

render(html`<${App} />`, document.getElementById("app"));
