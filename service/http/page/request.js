// The request as it would be sent now, as a program to copy.

import { RECOGNIZE } from "./api.js";
import { snippet } from "./snippets.js";

const byId = (id) => document.getElementById(id);

export class RequestPanel {
  #getPost;
  #drawing = 0;

  /** `getPost` gives the text, the photo, the photo's address if it has one, and the key. */
  constructor(getPost) {
    this.#getPost = getPost;
    byId("request").addEventListener("change", () => this.update());
    byId("copy").addEventListener("click", () => this.#copy());
    this.update();
  }

  /** Show the request before the next frame, however often it changes until then. */
  update() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = requestAnimationFrame(() => this.#draw());
  }

  #program() {
    const { text, photo, source, key } = this.#getPost();
    const language = byId("request").querySelector("input:checked").value;
    return snippet(language, { text, photo: photo?.name ?? "", source }, RECOGNIZE, Boolean(key));
  }

  #draw() {
    const { photo, source, key } = this.#getPost();
    byId("snippet").firstElementChild.textContent = this.#program();
    byId("copied").textContent = "";
    const file = photo && !source ? `Run it in the folder that has ${photo.name}. ` : "";
    byId("snippet-note").textContent = file + (key ? "Put your key into the variable SMNER_API_KEY first." : "");
  }

  async #copy() {
    const program = this.#program();
    const copied = await copyText(program, byId("snippet").firstElementChild);
    byId("copied").textContent = copied ? "Copied." : "The browser does not let this page copy. It is selected: press Ctrl+C.";
  }
}

// browsers have no clipboard for pages that came over plain HTTP from another machine, but copy what is selected
async function copyText(text, element) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // not allowed; try the other way
    }
  }
  element.textContent = text;
  getSelection().selectAllChildren(element);
  return document.execCommand("copy");
}
