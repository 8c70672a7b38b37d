// The column of steps: what the server's state and the sliders say, shown.

import { showOptions } from "./options.js";
import { address } from "./server.js";

const element = (id) => document.getElementById(id);

/**
 * Show the state. `actions` has what a user can do here: `renameClass(number, name)`, `removeClass(number)` and
 * `loadExample(name)`.
 */
export function showSteps(state, actions) {
  showOptions(element("network"), state.networks.map(({ key, title }) => ({ text: title, value: key })));
  showClasses(state, actions);
  showRun(state);
  showExamples(state.examples, actions);
  const known = state.photographs.flatMap(({ presence, predicted }) => (predicted ? presence : []));
  const isUnknown = known.length > 0 && known.every((each) => each === null);
  element("presence-unknown").hidden = !isUnknown;
  element("presence").disabled = isUnknown;
  element("clear").disabled = !state.photographs.length;
  showDownloads(state, readMarking());
}

/** What the sliders say, which they show as well: the words of an address. */
export function readMarking() {
  const [threshold, presence] = [element("threshold").value, element("presence").value];
  const pieces = Math.round(Number(element("min-area").value) ** 2); // small ones finely
  element("threshold-value").textContent = percent(threshold);
  element("presence-value").textContent = Number(presence) ? percent(presence) : "any";
  element("min-area-value").textContent = `${pieces} pixels`;
  return { threshold, presence, min_area: pieces };
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/** Links to the masks that the sliders give now. */
export function showDownloads(state, marking) {
  const any = state.photographs.some(({ annotated, predicted }) => annotated || predicted);
  const files = { zip: "/masks.zip", labelme: "/masks.labelme.zip", coco: "/masks.coco.json" };
  for (const [id, file] of Object.entries(files).map(([form, path]) => [`download-${form}`, path])) {
    if (any) element(id).href = address(file, marking);
    else element(id).removeAttribute("href");
    element(id).setAttribute("aria-disabled", !any);
  }
}

function showClasses(state, actions) {
  const list = element("classes");
  if (list.contains(document.activeElement) && document.activeElement.tagName === "INPUT") return;
  list.replaceChildren(...state.classes.map((each, index) => classRow(each, index + 1, state, actions)));
}

function classRow({ name, colour }, number, state, actions) {
  const row = document.createElement("li");
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = `rgb(${colour.join(" ")})`;
  const input = document.createElement("input");
  [input.value, input.maxLength] = [name, 60];
  input.setAttribute("aria-label", `Name of class ${number}`);
  input.onchange = () => actions.renameClass(number, input.value);
  input.onkeydown = (event) => event.key === "Enter" && input.blur();
  const count = document.createElement("span");
  count.className = "count";
  const examples = state.photographs.filter(({ annotated, shares }) => annotated && shares[number - 1] > 0).length;
  count.textContent = counted(examples, "example");
  const remove = document.createElement("button");
  [remove.type, remove.textContent, remove.disabled] = ["button", "×", state.classes.length === 1];
  remove.setAttribute("aria-label", `Remove class ${name}`);
  remove.onclick = () => actions.removeClass(number);
  row.append(swatch, input, count, remove);
  return row;
}

function showRun({ run, photographs }) {
  const progress = element("progress");
  progress.hidden = !run?.running;
  if (run) [progress.max, progress.value] = [Math.max(1, run.total), run.done];
  if (run) {
    const segmented = photographs.filter(({ predicted }) => predicted).length;
    element("said").textContent = run.running ? "segmenting ..." : run.error ? "" : `${counted(segmented, "photograph")} segmented`;
  }
  element("segment").textContent = run?.running ? "Stop" : "Segment";
  element("segment").disabled = !photographs.length;
}

function counted(number, noun) {
  return number === 1 ? `1 ${noun}` : `${number} ${noun}s`;
}

function showExamples(names, actions) {
  if (element("examples").children.length) return;
  for (const name of names) {
    const button = document.createElement("button");
    [button.type, button.className, button.textContent] = ["button", "link", name];
    button.onclick = () => actions.loadExample(name);
    element("examples").append(button, " ");
  }
}
