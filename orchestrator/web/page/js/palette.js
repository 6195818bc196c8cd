// Scales of the heat map: one hue from pale to deep, told apart by lightness alone, so that no eye needs the hue.

/** What a card does: its word, a sign that needs no colour, the variable of its colour. */
export const STATES = {
  busy: { word: "busy", sign: "▪", tone: "--busy" },
  idle: { word: "held, idle", sign: "z", tone: "--idle" },
  faulty: { word: "faulty", sign: "!", tone: "--faulty" },
  away: { word: "host away", sign: "?", tone: "--away" },
  free: { word: "free", sign: "·", tone: "--free" },
  closed: { word: "takes no work", sign: "–", tone: "--closed" },
};

const LIGHT = [[232, 238, 243], [158, 202, 225], [66, 146, 198], [8, 81, 156], [4, 40, 84]];
const DARK = [[35, 48, 60], [28, 80, 120], [45, 130, 185], [120, 190, 232], [222, 242, 255]];
const HEAT_LIGHT = [[240, 238, 232], [250, 214, 150], [233, 158, 60], [190, 92, 10], [110, 45, 4]];
const HEAT_DARK = [[44, 46, 50], [105, 68, 26], [176, 108, 28], [236, 166, 70], [255, 228, 178]];

export const isDark = () => document.documentElement.dataset.theme === "dark";

/** A colour for 0 to 1. warm: for what is to be little, as waste is. */
export function shade(value, warm = false, dark = isDark()) {
  const stops = warm ? (dark ? HEAT_DARK : HEAT_LIGHT) : dark ? DARK : LIGHT;
  const at = Math.min(1, Math.max(0, value)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(at));
  const mixed = stops[low].map((from, i) => Math.round(from + (stops[low + 1][i] - from) * (at - low)));
  return `rgb(${mixed.join(" ")})`;
}

/** The value of a colour variable now. */
export const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Lines and parts, told apart by lightness too: Okabe and Ito's, in an order of contrast. */
const LINES_LIGHT = ["#1f6fa8", "#c04a00", "#00795c", "#8a5f7d", "#8a6d00", "#4b5563", "#2aa6c9", "#a13d63"];
const LINES_DARK = ["#5cb2ea", "#f0813d", "#3cc39b", "#d7a3c8", "#e6c23c", "#aab6c2", "#8fdcf2", "#f08fb0"];
export const line = (index) => (isDark() ? LINES_DARK : LINES_LIGHT)[index % LINES_LIGHT.length];
