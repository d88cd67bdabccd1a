// Each type has a color and its name; the names of well-known types are spelled out.

const COLORS = 8; // in page.css
const MEANINGS = { PER: "person", LOC: "place", ORG: "organization", MISC: "other name" };

const known = [];

/** Fix the order of the types, and with it their colors. */
export function knowTypes(labels) {
  known.push(...labels.filter((label) => !known.includes(label)));
}

export function typeClass(label) {
  knowTypes([label]);
  return `type-${known.indexOf(label) % COLORS}`;
}

/** A label in the color of its type. */
export function tag(label) {
  const element = document.createElement("span");
  element.className = `tag ${typeClass(label)}`;
  element.textContent = label;
  return element;
}

/** What the labels mean, as far as it is known. */
export function legend(labels) {
  return labels.flatMap((label) => [tag(label), ` ${MEANINGS[label] ?? ""} `]);
}
