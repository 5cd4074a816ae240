// The page: who is signed in, what is around, and which page is shown.
import { currentSession, messageOf, signOut } from "./lib/api.js";
import { html, render, useEffect, useLayoutEffect, useRef, useState } from "./lib/html.js";
import { useRoute } from "./lib/router.js";
import { Button, ErrorNotice, Logo } from "./ui/basics.js";
import { Job } from "./pages/job.js";
import { Jobs } from "./pages/jobs.js";
import { NewJob } from "./pages/new-job.js";
import { SignIn } from "./pages/sign-in.js";
import { System } from "./pages/system.js";
import { TryIt } from "./pages/try.js";

const NAV = [["jobs", "Jobs"], ["new", "New job"], ["try", "Try it"], ["system", "System"]];
const THEMES = { system: ["screen", "light"], light: ["sun", "dark"], dark: ["moon", "system"] };

function App() {
  const [session, setSession] = useState(undefined); // not known yet; null: nobody is signed in
  const [error, setError] = useState(null);
  const ask = () => {
    setError(null);
    currentSession().then(setSession, (refused) => setError(messageOf(refused)));
  };
  useEffect(() => {
    ask();
    const leave = () => setSession(null);
    window.addEventListener("signed-out", leave);
    return () => window.removeEventListener("signed-out", leave);
  }, []);
  if (error) return html`<main><${ErrorNotice} error=${error} retry=${ask} /></main>`;
  if (session === undefined) return null;
  if (session === null) return html`<${SignIn} onSignedIn=${setSession} />`;
  return html`<${Shell} session=${session} onSignOut=${() => signOut().finally(() => setSession(null))} />`;
}

function Shell({ session, onSignOut }) {
  const { path, query } = useRoute();
  const section = path[0] ?? "jobs";
  const main = useRef(null);
  const page = path.slice(0, 2).join("/");
  const isFirst = useRef(true);
  useLayoutEffect(() => {
    // as a loaded page would: from the top, with the keyboard in it
    if (!isFirst.current) {
      window.scrollTo(0, 0);
      main.current?.focus({ preventScroll: true });
    }
    isFirst.current = false;
  }, [page]);
  return html`
    <a class="button skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to content</a>
    <header class="top"><div class="top-inner">
      <a class="brand" href="#/jobs"><${Logo} /> maskmill</a>
      <nav class="nav" aria-label="Pages">
        ${NAV.map(([key, text]) => html`<a href=${`#/${key}`} aria-current=${key === section ? "page" : undefined}>${text}</a>`)}
      </nav>
      <div class="account">
        <span class="key cut" title=${`Signed in with the key ${session.key_name}`}>${session.key_name}</span>
        <${ThemeButton} />
        <${Button} kind="quiet" icon="leave" label="Sign out" onClick=${onSignOut} />
      </div>
    </div></header>
    <main id="main" tabindex="-1" ref=${main} key=${page}>${pageOf(section, path, query)}</main>`;
}

function pageOf(section, path, query) {
  if (section === "jobs" && path[1]) return html`<${Job} id=${path[1]} tab=${path[2]} image=${path[3]} query=${query} />`;
  if (section === "jobs") return html`<${Jobs} query=${query} />`;
  if (section === "new") return html`<${NewJob} query=${query} />`;
  if (section === "try") return html`<${TryIt} />`;
  if (section === "system") return html`<${System} />`;
  return html`<p class="notice">There is no such page. <a href="#/jobs">Go to your jobs.</a></p>`;
}

function ThemeButton() {
  const root = document.documentElement;
  const [theme, setTheme] = useState(root.dataset.theme);
  const [icon, next] = THEMES[theme] ?? THEMES.system;
  const change = () => {
    root.dataset.theme = next;
    localStorage.setItem("maskmill.theme", next);
    setTheme(next);
  };
  return html`<${Button} kind="quiet" icon=${icon} label=${`Theme: ${theme}. Change to ${next}`} onClick=${change} />`;
}

// A file that is dropped beside the field for it would open in place of the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());

render(html`<${App} />`, document.getElementById("app"));
