// Before the first paint, so that a chosen theme does not flash: not a module, which would wait.
document.documentElement.dataset.theme = localStorage.getItem("maskmill.theme") ?? "system";
