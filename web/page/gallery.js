// The list of photographs: predicted ones by confidence, after those with a mask of the user's.

import { address } from "./server.js";

const cards = new Map(); // by the photograph's number

/** Show the photographs of `state` with the mask that `marking` gives them; `open` is called with the chosen one. */
export function showGallery(gallery, state, marking, open) {
  for (const [number, card] of cards) {
    if (!state.photographs.some((photograph) => photograph.number === number)) {
      card.remove();
      cards.delete(number);
    }
  }
  for (const [position, photograph] of sorted(state.photographs).entries()) {
    const card = cards.get(photograph.number) ?? newCard(photograph.number);
    fill(card, photograph, state.classes, marking);
    card.onclick = () => open(photograph.number);
    // Moving a card that is in its place would take the focus from it.
    if (gallery.children[position] !== card) gallery.insertBefore(card, gallery.children[position] ?? null);
  }
}

/** In the order of the list. */
export function sorted(photographs) {
  const rank = (photograph) => (photograph.annotated ? 2 : photograph.confidence ?? -1);
  return [...photographs].sort((one, other) => rank(other) - rank(one) || one.number - other.number);
}

function newCard(number) {
  const card = document.createElement("button");
  card.type = "button";
  card.className = "card";
  const image = document.createElement("img");
  image.loading = "lazy";
  image.alt = "";
  const about = document.createElement("span");
  about.className = "about";
  for (const part of ["name", "found"]) {
    const line = document.createElement("span");
    line.className = part;
    about.append(line);
  }
  card.append(image, about);
  cards.set(number, card);
  return card;
}

function fill(card, photograph, classes, marking) {
  const source = address(`/photographs/${photograph.number}/thumbnail`, { ...marking, v: photograph.version });
  const image = card.querySelector("img");
  if (image.getAttribute("src") !== source) image.src = source;
  card.querySelector(".name").textContent = photograph.name;
  card.title = photograph.name;
  const found = card.querySelector(".found");
  found.textContent = described(photograph, classes);
  found.classList.toggle("badge", photograph.annotated);
}

/** In words: for each class that is marked its share and the probability that it is there. */
export function described(photograph, classes) {
  if (!photograph.annotated && !photograph.predicted) return "";
  const parts = classes.flatMap(({ name }, index) => {
    const [share, presence] = [photograph.shares[index], photograph.presence[index]];
    const there = presence === null ? "" : `, there: ${percent(presence)}`;
    return share > 0 || presence !== null ? [`${name} ${percent(share)}${there}`] : [];
  });
  const sure = photograph.confidence === null || photograph.presence.some((each) => each !== null) ? "" :
    `, sure: ${percent(photograph.confidence)}`;
  return (photograph.annotated ? "your mask: " : "") + (parts.join("; ") || "nothing") + (parts.length ? sure : "");
}

function percent(share) {
  return share > 0 && share < 0.01 ? "<1 %" : `${Math.round(100 * share)} %`;
}
