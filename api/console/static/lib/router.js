// Pages by the fragment: #/jobs/job_1/errors?code=timeout. The server knows one page only.
import { useEffect, useState } from "./html.js";

/** {path: ["jobs", "job_1", "errors"], query: URLSearchParams} */
export function currentRoute() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

export function useRoute() {
  const [route, setRoute] = useState(currentRoute);
  useEffect(() => {
    const follow = () => setRoute(currentRoute());
    window.addEventListener("hashchange", follow);
    return () => window.removeEventListener("hashchange", follow);
  }, []);
  return route;
}

export function go(hash) {
  location.hash = hash;
}

/** Another place of the same page, which `back` is not to return to one by one. */
export function replace(hash) {
  history.replaceState(null, "", hash);
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}
