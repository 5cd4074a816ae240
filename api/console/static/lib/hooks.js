// What pages do with the service, as hooks.
import { get, messageOf } from "./api.js";
import { followJob } from "./events.js";
import { useCallback, useEffect, useRef, useState } from "./html.js";

/**
 * {data, error, reload, look}: `data` keeps its old value while it is fetched anew. `look` is for those who look
 * again and again: it does not give up an answer that is under way.
 */
export function useFetched(load, inputs) {
  const [state, setState] = useState({ data: null, error: null });
  const [round, setRound] = useState(0);
  const underWay = useRef(null);
  useEffect(() => {
    const leaving = new AbortController();
    underWay.current = leaving;
    load(leaving.signal)
      .then((data) => setState({ data, error: null }))
      .catch((error) => {
        if (!leaving.signal.aborted) setState((before) => ({ ...before, error: messageOf(error) }));
      })
      .finally(() => {
        if (underWay.current === leaving) underWay.current = null;
      });
    return () => leaving.abort();
  }, [...inputs, round]);
  const reload = useCallback(() => setRound((number) => number + 1), []);
  const look = useCallback(() => underWay.current ?? reload(), []);
  return { ...state, reload, look };
}

/** Calls `act` every so many seconds while the tab is seen and `isOn`. */
export function useEvery(seconds, act, isOn = true) {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    if (!isOn) return undefined;
    const timer = setInterval(() => !document.hidden && latest.current(), seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds, isOn]);
}

/** A job, live while it is open. `onExport` hears when something becomes of one of its exports. */
export function useJob(jobId, { onExport } = {}) {
  const load = (signal) => get(`/v1/jobs/${jobId}`, { signal });
  const { data, error, reload } = useFetched(load, [jobId]);
  const [progress, setProgress] = useState(null);
  const listener = useRef(onExport);
  listener.current = onExport;
  useEffect(() => setProgress(null), [data]);
  const isOpen = data !== null && isOpenJob(data);
  useEffect(() => {
    if (!isOpen) return undefined;
    // a stream begins with all that has happened: one look is enough for all of it
    const reloadSoon = collected(reload);
    const tellSoon = collected(() => listener.current?.());
    return followJob(jobId, {
      onProgress: (latest) => (isOpenJob(latest) ? setProgress(latest) : reload()),
      onEvent: (kind) => (kind.startsWith("export.") ? tellSoon() : reloadSoon()),
    });
  }, [jobId, isOpen]);
  return { job: data && { ...data, ...progress }, error, reload };
}

/** `act`, once for all calls within 200 ms. */
function collected(act) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, 200);
  };
}

export const isOpenJob = (job) => ["queued", "planning", "running"].includes(job.status);

/** {busy, error, run}: one thing at a time that a person has asked for. */
export function useAction() {
  const [state, setState] = useState({ busy: false, error: null });
  const run = async (act) => {
    setState({ busy: true, error: null });
    try {
      const result = await act();
      setState({ busy: false, error: null });
      return result;
    } catch (error) {
      setState({ busy: false, error: messageOf(error) });
      return undefined;
    }
  };
  return { ...state, run };
}

export function useTitle(title) {
  useEffect(() => {
    document.title = title ? `${title} · maskmill` : "maskmill";
  }, [title]);
}

/** The width and height of an element, [ref, size]; null before it is laid out. */
export function useSize() {
  const ref = useRef(null);
  const [size, setSize] = useState(null);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      setSize((old) => (old?.width === width && old?.height === height ? old : { width, height }));
    });
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return [ref, size];
}
