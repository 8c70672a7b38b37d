// Painting a mask over a photograph. The mask itself is a LabelMap; the canvas only shows it.

import { address, ask, askBytes } from "./server.js";
import { LabelMap } from "./label_map.js";
import { showOptions } from "./options.js";

const OPACITY = 128; // of 255
const MOST_UNDO = 50;
const ZOOM_STEP = 1.5;
const MOST_ZOOM = 12;

const element = (id) => document.getElementById(id);

export class Editor {
  /** `changed` is called with the server's state after every change, `failed` with an Error. */
  constructor({ changed, failed }) {
    this.changed = changed;
    this.failed = failed;
    this.photograph = null;
    this.colours = [];
    this.last = null; // where the stroke has come to
    this.undoable = []; // masks before each stroke, and whether they were the user's
    this.saving = Promise.resolve();
    this.canvas = element("canvas");
    this.context = this.canvas.getContext("2d");
    this.listen();
  }

  /** Show a photograph of the server's state; its mask is what `marking` gives it. */
  async open(photograph, classes, marking) {
    await this.saving;
    const path = `/photographs/${photograph.number}`;
    const ids = await askBytes(address(`${path}/mask`, marking));
    const picture = element("picture");
    picture.src = `${path}/picture`;
    await picture.decode();
    this.photograph = photograph;
    this.map = new LabelMap(photograph.width, photograph.height, ids);
    [this.canvas.width, this.canvas.height] = [picture.naturalWidth, picture.naturalHeight];
    this.undoable = [];
    this.zoom = 1;
    element("editor-name").textContent = photograph.name;
    const longer = Math.max(photograph.width, photograph.height);
    element("brush").max = Math.ceil(longer / 3);
    element("brush").value = Math.ceil(longer / 12);
    element("editor").hidden = false;
    this.setClasses(classes);
    this.drawAll();
    this.showKind();
    this.fit();
    this.showBrush();
  }

  close() {
    this.photograph = null;
    element("editor").hidden = true;
  }

  setClasses(classes) {
    this.colours = classes.map(({ colour }) => colour);
    showOptions(element("paint-class"), classes.map(({ name }, index) => ({ text: name, value: index + 1 })));
  }

  /** The number of the class that is painted. */
  get paintClass() {
    return Number(element("paint-class").value);
  }

  listen() {
    this.canvas.addEventListener("pointerdown", (event) => this.begin(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    this.canvas.addEventListener("pointerup", () => this.end());
    this.canvas.addEventListener("pointercancel", () => this.end());
    this.canvas.addEventListener("pointerleave", () => (element("cursor").hidden = true));
    element("erase").onclick = () => this.toggleErase();
    element("undo").onclick = () => this.undo();
    element("brush").oninput = () => this.showBrush();
    element("zoom-in").onclick = () => this.setZoom(this.zoom * ZOOM_STEP);
    element("zoom-out").onclick = () => this.setZoom(this.zoom / ZOOM_STEP);
    element("zoom-fit").onclick = () => this.setZoom(1);
    element("forget-mask").onclick = () => this.forgetMask();
    window.addEventListener("resize", () => this.photograph && this.fit());
  }

  begin(event) {
    if (event.button !== 0 || this.last !== null) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.undoable.push({ ids: this.map.ids.slice(), annotated: this.photograph.annotated });
    if (this.undoable.length > MOST_UNDO) this.undoable.shift();
    this.last = this.place(event);
    this.paintTo(this.last);
  }

  move(event) {
    this.showCursor(event);
    if (this.last === null) return;
    // A fast pointer is asked for all the places it came by.
    for (const each of event.getCoalescedEvents?.() ?? []) this.paintTo(this.place(each));
    this.paintTo(this.place(event));
  }

  end() {
    if (this.last === null) return;
    this.last = null;
    this.save();
  }

  paintTo(place) {
    const erasing = element("erase").getAttribute("aria-pressed") === "true";
    const radius = Number(element("brush").value) / 2;
    const rectangle = this.map.stroke(this.last, place, radius, erasing ? 0 : this.paintClass);
    this.last = place;
    if (rectangle !== null) this.draw(rectangle);
  }

  /** In pixels of the photograph. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * this.map.width) / box.width,
      y: ((event.clientY - box.top) * this.map.height) / box.height,
    };
  }

  undo() {
    const before = this.undoable.pop();
    if (before === undefined) return;
    this.map.ids = before.ids;
    this.drawAll();
    if (before.annotated) this.save();
    else this.change("DELETE");
  }

  save() {
    this.change("PUT", this.map.ids.slice());
  }

  async forgetMask() {
    await this.change("DELETE");
    this.changed(null); // what is predicted is shown again
  }

  /** One change after the other, so that the last one counts. */
  change(method, body) {
    const photograph = this.photograph;
    this.saving = this.saving.then(async () => {
      try {
        const state = await ask(method, `/photographs/${photograph.number}/mask`, { body });
        photograph.annotated = method === "PUT";
        if (this.photograph === photograph) this.showKind();
        this.changed(state);
      } catch (error) {
        this.failed(error);
      }
    });
    element("undo").disabled = !this.undoable.length;
    return this.saving;
  }

  toggleErase() {
    const button = element("erase");
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  }

  /** The brush larger or smaller by a quarter. */
  resizeBrush(larger) {
    const brush = element("brush");
    const size = Number(brush.value);
    brush.value = larger ? Math.ceil(size * 1.25) : Math.floor(size / 1.25);
    this.showBrush();
  }

  showBrush() {
    element("brush-value").textContent = `${element("brush").value} px`;
  }

  showCursor(event) {
    const cursor = element("cursor");
    const box = this.canvas.getBoundingClientRect();
    const side = (Number(element("brush").value) * box.width) / this.map.width;
    [cursor.style.width, cursor.style.height] = [`${side}px`, `${side}px`];
    [cursor.style.left, cursor.style.top] = [`${event.clientX - box.left}px`, `${event.clientY - box.top}px`];
    cursor.hidden = false;
  }

  showKind() {
    element("editor-kind").textContent = this.photograph.annotated ? "your mask: counts as an example"
      : this.photograph.predicted ? "predicted: paint to correct it" : "";
    element("forget-mask").disabled = !this.photograph.annotated;
    element("undo").disabled = !this.undoable.length;
  }

  setZoom(zoom) {
    this.zoom = Math.min(MOST_ZOOM, Math.max(1, zoom));
    this.fit();
  }

  /** Give the photograph the size that fits into the stage, times the zoom. */
  fit() {
    const { width, height } = this.photograph;
    const stage = element("stage");
    const room = { width: stage.clientWidth, height: Math.max(260, window.innerHeight - 255) };
    const scale = Math.min(room.width / width, room.height / height) * this.zoom;
    const layers = element("layers");
    [layers.style.width, layers.style.height] = [`${width * scale}px`, `${height * scale}px`];
  }

  drawAll() {
    this.draw({ left: 0, top: 0, right: this.map.width, bottom: this.map.height });
  }

  /** Show a rectangle of the mask; the canvas may have fewer pixels than the photograph. */
  draw({ left, top, right, bottom }) {
    const [scaleX, scaleY] = [this.map.width / this.canvas.width, this.map.height / this.canvas.height];
    const [x0, y0] = [Math.floor(left / scaleX), Math.floor(top / scaleY)];
    const [x1, y1] = [Math.ceil(right / scaleX), Math.ceil(bottom / scaleY)];
    const image = this.context.createImageData(x1 - x0, y1 - y0);
    let at = 0;
    for (let y = y0; y < y1; y++) {
      const row = Math.min(this.map.height - 1, Math.floor((y + 0.5) * scaleY)) * this.map.width;
      for (let x = x0; x < x1; x++, at += 4) {
        const id = this.map.ids[row + Math.min(this.map.width - 1, Math.floor((x + 0.5) * scaleX))];
        if (id) image.data.set([...this.colours[id - 1], OPACITY], at);
      }
    }
    this.context.putImageData(image, x0, y0);
  }
}
