// Shows an answer: the marked text, where the chosen entity looked, the table.

import { description, drawVeil, extremes, percent } from "./attention.js";
import { MarkedText } from "./marked.js";
import { legend, tag } from "./types.js";

const byId = (id) => document.getElementById(id);

export class Answer {
  #marked = new MarkedText(byId("marked"), (index) => this.#choose(index));
  #figure = byId("attention");
  #photo = byId("attention").querySelector("img");
  #canvas = byId("attention").querySelector("canvas");
  #rows = byId("entities").tBodies[0];
  #entities = [];
  #hasPhoto = false;
  #chosen = 0;

  constructor() {
    this.#figure.addEventListener("change", () => this.#draw());
    this.#rows.addEventListener("click", ({ target }) => this.#choose(target.closest("tr").sectionRowIndex));
  }

  show({ text, photo }, { entities }) {
    this.#entities = entities;
    this.#marked.show(text, entities);
    byId("legend").replaceChildren(...legend([...new Set(entities.map((entity) => entity.entity_group))]));
    this.#rows.replaceChildren(...entities.map(row));
    byId("rows").hidden = entities.length === 0;
    this.#showPhoto(photo);
    byId("found").hidden = false;
    this.#choose(0);
  }

  hide() {
    byId("found").hidden = true;
  }

  // of the post that was sent, whatever the form has by now
  #showPhoto(photo) {
    URL.revokeObjectURL(this.#photo.src);
    this.#hasPhoto = Boolean(photo);
    this.#figure.hidden = !photo;
    if (photo) this.#photo.src = URL.createObjectURL(photo);
    else this.#photo.removeAttribute("src");
  }

  #choose(index) {
    this.#chosen = index;
    this.#marked.choose(index);
    Array.from(this.#rows.rows).forEach((row, i) => (row.ariaCurrent = i === index ? "true" : null));
    const entity = this.#entities[index];
    if (entity) reveal(this.#rows.rows[index], byId("rows"));
    byId("explanation").textContent = explanation(entity, this.#hasPhoto);
    byId("scores").replaceChildren(...Object.entries(entity?.scores ?? {}).flatMap(([type, score]) => bar(type, score)));
    this.#draw();
  }

  #draw() {
    const entity = this.#entities[this.#chosen];
    const drawn = this.#figure.querySelector("input:checked").value;
    const regions = entity?.attention?.regions;
    this.#canvas.hidden = !regions || drawn === "off";
    this.#figure.classList.toggle("bare", !regions);
    if (!regions) return;
    drawVeil(this.#canvas, regions, { smooth: drawn === "smooth" });
    this.#canvas.setAttribute("aria-label", description(entity.word, regions));
    byId("least").textContent = percent(extremes(regions).least);
    byId("most").textContent = percent(extremes(regions).most);
  }
}

function explanation(entity, hasPhoto) {
  if (!hasPhoto) return "This post has no photo, so there is nothing to look at: the text alone decided.";
  if (!entity) return "Without an entity, nothing looked at the photo.";
  if (!entity.attention) return `The service does not say where “${entity.word}” looked.`;
  const whole = entity.attention.global;
  return (
    `“${entity.word}” gave ${percent(whole)} of its attention to the photo as a whole and ${percent(1 - whole)} ` +
    `to its regions. It looked most where the photo is yellow, least where it is dark.`
  );
}

// scrollIntoView would scroll the page, too
function reveal({ offsetTop, offsetHeight }, box) {
  const visible = offsetTop >= box.scrollTop && offsetTop + offsetHeight <= box.scrollTop + box.clientHeight;
  if (!visible) box.scrollTop = offsetTop - box.clientHeight / 2;
}

function row({ entity_group, word, start, end, score }) {
  const row = document.createElement("tr");
  const [type, name, offsets, probability] = Array.from({ length: 4 }, () => row.insertCell());
  type.append(tag(entity_group));
  name.textContent = word;
  name.dir = "auto";
  offsets.textContent = `${start}–${end}`;
  probability.textContent = score.toFixed(4);
  return row;
}

function bar(type, score) {
  const [name, value] = ["dt", "dd"].map((element) => document.createElement(element));
  name.append(tag(type));
  value.textContent = score.toFixed(4);
  value.style.setProperty("--share", percent(score).replace(" ", ""));
  return [name, value];
}
