// The text with its entities marked in place, one of which is chosen by click or arrow keys.

import { typeClass } from "./types.js";

/** The text as strings and entities in their order. Offsets count code points, strings UTF-16 units. */
export function segments(text, entities) {
  const points = Array.from(text);
  const cut = (start, end) => points.slice(start, end).join("");
  const parts = [];
  let end = 0;
  for (const entity of entities) {
    parts.push(cut(end, entity.start), { ...entity, word: cut(entity.start, entity.end) });
    end = entity.end;
  }
  return [...parts, cut(end)].filter((part) => part !== "");
}

export class MarkedText {
  #element;
  #marks = [];

  constructor(element, onChoose) {
    this.#element = element;
    element.addEventListener("click", (event) => {
      const index = this.#marks.indexOf(event.target.closest("mark"));
      if (index >= 0) onChoose(index);
    });
    element.addEventListener("keydown", (event) => {
      const index = this.#target(event);
      if (index === null) return;
      event.preventDefault();
      onChoose(index);
      this.#marks[index].focus();
    });
  }

  show(text, entities) {
    this.#marks = [];
    const nodes = segments(text, entities).map((part) => (typeof part === "string" ? part : this.#mark(part)));
    this.#element.replaceChildren(...nodes);
  }

  choose(index) {
    this.#marks.forEach((mark, i) => {
      mark.setAttribute("aria-pressed", String(i === index));
      mark.tabIndex = i === index ? 0 : -1;
    });
  }

  #mark({ entity_group, word, score }) {
    const mark = document.createElement("mark");
    const tag = document.createElement("span");
    tag.className = "tag";
    tag.dir = "ltr";
    tag.textContent = `${entity_group} ${score.toFixed(2)}`;
    mark.append(word, tag);
    mark.className = typeClass(entity_group);
    mark.setAttribute("role", "button");
    mark.setAttribute("aria-label", `${word} ${tag.textContent}`);
    this.#marks.push(mark);
    return mark;
  }

  // the entity that a key leads to; in a text from right to left, the next one is on the left
  #target({ key, target, altKey, ctrlKey, metaKey }) {
    const index = this.#marks.indexOf(target);
    if (index < 0 || altKey || ctrlKey || metaKey) return null;
    const forward = getComputedStyle(this.#element).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const last = this.#marks.length - 1;
    if (key === "ArrowDown" || key === forward) return Math.min(index + 1, last);
    if (key === "ArrowUp" || key === "ArrowLeft" || key === "ArrowRight") return Math.max(index - 1, 0);
    return { Home: 0, End: last, Enter: index, " ": index }[key] ?? null;
  }
}
