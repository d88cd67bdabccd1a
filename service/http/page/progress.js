// Shows that a request is on its way, for how long, and how it ended.

const byId = (id) => document.getElementById(id);

export class Progress {
  #timer = 0;

  begin(deadlineSeconds) {
    this.#stop();
    const began = Date.now();
    this.#timer = setInterval(() => {
      const limit = deadlineSeconds ? ` of at most ${deadlineSeconds}` : "";
      byId("elapsed").textContent = `${Math.round((Date.now() - began) / 1000)}${limit} s`;
    }, 1000);
    this.#show(true);
    byId("status").textContent = "Reading the post …"; // the seconds are not read aloud
  }

  end(words) {
    this.#stop();
    this.#show(false);
    byId("status").textContent = words;
    if (words) byId("answer").scrollIntoView({ block: "nearest" });
  }

  #stop() {
    clearInterval(this.#timer);
    byId("elapsed").textContent = "";
  }

  #show(busy) {
    byId("progress").hidden = !busy;
    byId("cancel").hidden = !busy;
    byId("answer").setAttribute("aria-busy", String(busy));
  }
}
