// Shows a problem in sentences, with a button to try again that waits as long as the service asks.

import { sentences } from "./problems.js";

const byId = (id) => document.getElementById(id);

export class ProblemView {
  #again = byId("again");
  #timer = 0;

  constructor(onAgain) {
    this.#again.addEventListener("click", () => onAgain());
  }

  clear() {
    clearInterval(this.#timer);
    byId("problem").replaceChildren();
    this.#again.hidden = true;
  }

  show(problem) {
    this.clear();
    const { headline, reason, advice, source } = sentences(problem);
    byId("problem").append(
      paragraph("headline", headline),
      paragraph("", [reason, advice].filter(Boolean).join(" ")),
      paragraph("small", source),
    );
    this.#again.hidden = false;
    this.#countDown(problem.retryAfter ?? 0);
    byId("answer").scrollIntoView({ block: "nearest" });
  }

  #countDown(seconds) {
    const until = Date.now() + 1000 * seconds;
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      this.#again.disabled = left > 0;
      this.#again.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
      if (left <= 0) clearInterval(this.#timer);
    };
    this.#timer = setInterval(tick, 200);
    tick();
  }
}

function paragraph(className, words) {
  const element = document.createElement("p");
  element.className = className;
  element.textContent = words;
  return element;
}
