// Preact and its hooks, with templates in place of JSX: the page has no build step.
import { Fragment, createContext, h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export * from "../vendor/preact-hooks.js";
export { Fragment, createContext, render };
export const html = htm.bind(h);
