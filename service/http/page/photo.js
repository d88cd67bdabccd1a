// The photo of the post: chosen, dropped or pasted; shown at once; removed.

export class PhotoField {
  #element;
  #input;
  #chosen;
  #preview;
  #note;
  #onChange;
  file = null;

  constructor(element, onChange) {
    this.#element = element;
    this.#input = element.querySelector("input");
    this.#chosen = element.querySelector(".chosen-photo");
    this.#preview = element.querySelector("img");
    this.#note = element.querySelector("[role=status]");
    this.#onChange = onChange;
    this.#input.addEventListener("change", () => this.#take(this.#input.files));
    element.querySelector("button").addEventListener("click", () => this.#remove());
    this.#preview.addEventListener("error", () => this.#unshowable());
    this.#acceptDrops();
    this.#acceptPastes();
  }

  /** Set the photo, or none. */
  set(file, note = "") {
    URL.revokeObjectURL(this.#preview.src);
    this.file = file;
    this.#input.value = ""; // so that the same file can be chosen again
    this.#chosen.hidden = file === null;
    this.#preview.hidden = false;
    if (file) this.#preview.src = URL.createObjectURL(file);
    else this.#preview.removeAttribute("src");
    this.#note.textContent = [file && `${file.name}, ${kilobytes(file.size)}.`, note].filter(Boolean).join(" ");
    this.#onChange();
  }

  #remove() {
    this.set(null, "Photo removed.");
    this.#input.focus();
  }

  #take(files) {
    const note = files.length > 1 ? `A post has one photo; the other ${files.length - 1} are left out.` : "";
    if (files.length > 0) this.set(files[0], note);
  }

  #unshowable() {
    if (this.file === null) return;
    this.#preview.hidden = true;
    this.#note.textContent = `${this.file.name}: your browser cannot show this file. The service may still read it.`;
  }

  // anywhere on the page: a browser leaves it for a photo that misses
  #acceptDrops() {
    const carriesFiles = ({ dataTransfer }) => dataTransfer.types.includes("Files");
    const highlight = (on) => this.#element.classList.toggle("dropping", on);
    document.addEventListener("dragover", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      highlight(true);
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget ?? highlight(false));
    document.addEventListener("drop", (event) => {
      highlight(false);
      if (!carriesFiles(event)) return;
      event.preventDefault();
      this.#take(event.dataTransfer.files);
    });
  }

  // words that were copied from a document come with a picture of themselves
  #acceptPastes() {
    document.addEventListener("paste", (event) => {
      const { files, types } = event.clipboardData;
      if (files.length === 0 || types.includes("text/plain")) return;
      event.preventDefault();
      this.#take(files);
    });
  }
}

function kilobytes(bytes) {
  return bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
