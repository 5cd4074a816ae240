import { messageOf } from "../../lib/api.js";
import { useEffect, useRef, useState } from "../../lib/html.js";

/** Asks one question at a time: a new one takes the place of the one under way, which `drop` gives up. */
export function useLatest(onAnswer) {
  const [state, setState] = useState({ busy: false, error: null });
  const leaving = useRef(null);
  useEffect(() => () => leaving.current?.abort(), []);
  const ask = async (question) => {
    leaving.current?.abort();
    const own = new AbortController();
    leaving.current = own;
    setState({ busy: true, error: null });
    try {
      const answer = await question(own.signal);
      if (!own.signal.aborted) onAnswer(answer);
    } catch (error) {
      if (!own.signal.aborted) setState({ busy: false, error: messageOf(error) });
    }
    if (!own.signal.aborted) setState((old) => ({ ...old, busy: false }));
  };
  const drop = () => {
    leaving.current?.abort();
    setState({ busy: false, error: null });
  };
  return { ...state, ask, drop };
}
