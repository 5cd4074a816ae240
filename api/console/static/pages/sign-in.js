import { Problem, messageOf, signIn } from "../lib/api.js";
import { useTitle } from "../lib/hooks.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { Button, Field, Logo } from "../ui/basics.js";

const HINT = html`
  <code>maskmill up</code> prints one; an admin makes more with <code>maskmill keys create</code>. You stay signed in here
  for 12 hours.`;

export function SignIn({ onSignedIn }) {
  useTitle("Sign in");
  const input = useRef(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const [isShown, setShown] = useState(false);
  useEffect(() => input.current.focus(), []);

  const submit = async (event) => {
    event.preventDefault();
    const key = input.current.value.trim();
    if (!key) return setError("Paste a key first: it begins with mm_.");
    setBusy(true);
    try {
      onSignedIn(await signIn(key));
    } catch (refused) {
      setError(said(refused));
      setBusy(false);
      input.current.focus();
    }
    return undefined;
  };

  return html`<main class="sign-in" id="main" tabindex="-1">
    <form class="card" onSubmit=${submit}>
      <div class="brand"><${Logo} size=${32} /> maskmill</div>
      <h1>Sign in</h1>
      <${Field} label="API key" error=${error} hint=${HINT}>
        ${(field) => html`
          <input
            ...${field}
            ref=${input}
            name="api_key"
            type=${isShown ? "text" : "password"}
            class="code"
            autocomplete="current-password"
            spellcheck=${false}
            placeholder="mm_..."
            onInput=${() => setError(null)}
          />`}
      <//>
      <label class="check">
        <input type="checkbox" checked=${isShown} onChange=${(event) => setShown(event.target.checked)} /> Show the key
      </label>
      <${Button} type="submit" kind="main" busy=${busy}>${busy ? "Signing in…" : "Sign in"}<//>
      <p class="unseen" role="alert">${error}</p>
    </form>
  </main>`;
}

function said(refused) {
  const isUnknown = refused instanceof Problem && refused.status === 401;
  return isUnknown ? "This key is unknown or revoked. Check that all of it was copied." : messageOf(refused);
}
