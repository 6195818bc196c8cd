// The theme, before anything is drawn: what was chosen here, else the system's, also when that changes.
const system = matchMedia("(prefers-color-scheme: dark)");
const setTheme = () => (document.documentElement.dataset.theme = localStorage.getItem("tuneyard-theme") ?? (system.matches ? "dark" : "light"));
system.addEventListener("change", setTheme);
setTheme();
