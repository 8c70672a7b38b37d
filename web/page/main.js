// The page: what the server has, shown; what the user does, told to the server.

import { Editor } from "./editor.js";
import { droppedFiles, isVisible } from "./dropped_files.js";
import { showGallery, sorted } from "./gallery.js";
import { address, ask } from "./server.js";
import { readMarking, showDownloads, showSteps } from "./steps.js";

const RUNNING_POLL = 300; // milliseconds
const IDLE_POLL = 5 * 60 * 1000; // a session that nobody asks for is deleted after an hour
const SLIDER_REST = 80;

const element = (id) => document.getElementById(id);

let state = null;
let timer = 0;
let marking = readMarking();
const editor = new Editor({ changed: (next) => (next ? show(next) : reopen()), failed: complain });

listen();
refresh();

async function refresh() {
  try {
    show(await ask("GET", address("/state", marking)));
  } catch (error) {
    complain(error);
  }
  clearTimeout(timer);
  timer = setTimeout(refresh, state?.run?.running ? RUNNING_POLL : IDLE_POLL);
}

/** Show the server's state. */
function show(next) {
  if (next.run?.error && !state?.run?.error) complain(new Error(next.run.error));
  state = next;
  element("empty").hidden = state.photographs.length > 0;
  element("gallery").hidden = editor.photograph !== null;
  showGallery(element("gallery"), state, marking, (number) => attempt(() => open(number)));
  showSteps(state, { renameClass, removeClass, loadExample });
  editor.setClasses(state.classes);
}

async function renameClass(number, name) {
  await change("PUT", `/classes/${number}`, { name });
}

async function removeClass(number) {
  await change("DELETE", `/classes/${number}`);
  await reopen();
}

async function loadExample(name) {
  if (state.photographs.length && !confirm("Put the example in the place of what is here?")) return;
  closeEditor();
  await change("POST", `/examples/${name}`);
}

async function open(number) {
  const photograph = state.photographs.find((each) => each.number === number);
  if (photograph === undefined) return;
  await editor.open(photograph, state.classes, marking);
  note("");
  element("gallery").hidden = true;
  element("canvas").focus({ preventScroll: true });
}

/** Read the mask of the photograph that is open anew. */
async function reopen() {
  await refresh();
  if (editor.photograph) await attempt(() => open(editor.photograph.number));
}

function closeEditor() {
  const number = editor.photograph?.number;
  editor.close();
  element("gallery").hidden = false;
  if (state && number !== undefined) show(state);
}

/** The photograph before or after the open one in the list. */
function step(by) {
  const numbers = sorted(state.photographs).map(({ number }) => number);
  const next = numbers[numbers.indexOf(editor.photograph.number) + by];
  if (next !== undefined) attempt(() => open(next));
}

async function addFiles(files) {
  const problems = [];
  element("error").hidden = true;
  for (const [index, file] of files.entries()) {
    element("said").textContent = `reading ${index + 1} of ${files.length}`;
    try {
      state = await ask("POST", address("/photographs", marking), { body: file, name: file.name });
      show(state);
    } catch (error) {
      problems.push(error.message);
    }
  }
  element("said").textContent = "";
  if (problems.length) {
    const more = problems.length > 1 ? ` (and ${problems.length - 1} more files)` : "";
    complain(new Error(problems[0] + more));
  }
}

async function addMask(file) {
  await editor.saving;
  const path = address(`/photographs/${editor.photograph.number}/mask-file`, { class: editor.paintClass });
  await attempt(async () => {
    const { said } = await ask("POST", path, { body: file, name: file.name });
    await reopen();
    note(said);
  });
}

async function segment() {
  await editor.saving;
  const { running } = state.run ?? {};
  state.run = null;
  if (running) await change("DELETE", "/run");
  else await change("POST", "/run", { words: { network: element("network").value } });
  await refresh();
}

async function change(method, path, { name, words } = {}) {
  await attempt(async () => show(await ask(method, address(path, { ...marking, ...words }), { name })));
}

/** Do something that may fail, with a line for the user where it does. */
async function attempt(action) {
  try {
    element("error").hidden = true;
    await action();
  } catch (error) {
    complain(error);
  }
}

/** A line above the photograph that is open. */
function note(text) {
  element("note").textContent = text;
  element("note").hidden = !text;
}

function complain(error) {
  element("error").textContent = error.message;
  element("error").hidden = false;
}

function listen() {
  let rest = 0;
  for (const id of ["threshold", "presence", "min-area"]) {
    element(id).oninput = () => {
      marking = readMarking();
      if (state) showDownloads(state, marking);
      clearTimeout(rest);
      rest = setTimeout(() => (editor.photograph?.annotated === false ? reopen() : refresh()), SLIDER_REST);
    };
  }
  for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"], ["choose-mask", "mask-file"]]) {
    element(button).onclick = () => element(input).click();
  }
  element("files").onchange = (event) => takeFiles(event, addFiles);
  element("folder").onchange = (event) => takeFiles(event, addFiles);
  element("mask-file").onchange = (event) => takeFiles(event, ([file]) => addMask(file));
  element("add-class").onsubmit = async (event) => {
    event.preventDefault();
    await change("POST", "/classes", { name: element("new-class").value });
    if (element("error").hidden) {
      element("new-class").value = "";
      element("paint-class").value = String(state.classes.length);
    }
  };
  element("segment").onclick = segment;
  element("close").onclick = closeEditor;
  element("previous").onclick = () => step(-1);
  element("next").onclick = () => step(1);
  element("remove").onclick = async () => {
    const { number } = editor.photograph;
    closeEditor();
    await change("DELETE", `/photographs/${number}`);
  };
  element("clear").onclick = async () => {
    if (!confirm("Delete the photographs and masks here?")) return;
    closeEditor();
    await change("DELETE", "/session");
  };
  listenToDrops();
  document.addEventListener("keydown", pressKey);
}

async function takeFiles(event, take) {
  const files = [...event.target.files].filter(isVisible);
  event.target.value = ""; // the same file can be chosen again
  if (files.length) await take(files);
}

function listenToDrops() {
  const over = (event, dropping) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", dropping);
  };
  document.addEventListener("dragover", (event) => over(event, true));
  document.addEventListener("dragleave", (event) => over(event, false));
  document.addEventListener("drop", async (event) => {
    over(event, false);
    const isMask = editor.photograph !== null && element("stage").contains(event.target);
    const files = await droppedFiles(event.dataTransfer);
    if (isMask && files.length) await addMask(files[0]);
    else if (files.length) await addFiles(files);
  });
}

function pressKey(event) {
  const isWriting = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (editor.photograph === null || isWriting) return;
  const undoing = (event.ctrlKey || event.metaKey) && event.key === "z";
  if (!undoing && (event.ctrlKey || event.metaKey || event.altKey)) return;
  const actions = {
    "[": () => editor.resizeBrush(false),
    "]": () => editor.resizeBrush(true),
    e: () => editor.toggleErase(),
    z: () => editor.undo(),
    Escape: closeEditor,
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
  };
  if (!(event.key in actions)) return;
  event.preventDefault();
  actions[event.key]();
}
