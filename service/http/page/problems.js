// Says what went wrong in sentences: what happened, the limit and the value, what to do about it.

const SENTENCES = {
  malformed_request: ["The service cannot read this request.", ""],
  unauthorized: ["The service wants an API key.", "Enter a valid one and try again."],
  not_found: ["There is no service at this address.", "Whatever serves this page does not pass requests on to it."],
  method_not_allowed: ["The service does not take posts at this address.", ""],
  body_too_large: ["The post is too large.", "Choose a smaller photo; it grows by a third on its way."],
  image_too_large: ["The photo is too large.", "Choose a smaller one, or scale it down."],
  unsupported_media_type: ["The service does not take posts in this form.", ""],
  unsupported_image: ["The service cannot read photos of this kind.", "Save it as JPEG or PNG and choose it again."],
  missing_text: ["The post has no text.", "Write something first."],
  empty_text: ["The text is empty.", "Write something first; a photo alone has no names to find."],
  text_too_long: ["The text is too long.", "Shorten it, or send it in parts."],
  unreadable_image: ["The photo cannot be read.", "Choose another one."],
  internal_error: ["The service made a mistake.", "If it happens again, report it with the number of the request."],
  overloaded: ["The service has as many posts as it can take.", ""],
  not_ready: ["The service takes no posts right now.", "It is starting or shutting down."],
  rate_limited: ["This API key has sent too many posts.", "Wait a moment and try again."],
  deadline_exceeded: ["The service took too long.", "Try again; a smaller photo or a shorter text is read faster."],
  // what only a browser notices
  offline: ["This device is offline.", "Connect to the network and try again."],
  unreachable: ["The service does not answer.", "Check that it is running and try again."],
  unexpected_answer: ["The answer makes no sense.", "Something between this page and the service has changed it."],
  unreadable_file: ["The browser cannot read the photo.", "It was moved or changed after you chose it. Choose it again."],
  page_failed: ["This page has failed.", "Reload it and try again."],
  unsendable_key: ["No service has this API key.", "A key is made of ASCII letters, digits and punctuation."],
};

// of answers by proxies in between
const CODES = {
  401: "unauthorized",
  404: "not_found",
  405: "method_not_allowed",
  413: "body_too_large",
  429: "overloaded",
  502: "not_ready",
  503: "not_ready",
  504: "deadline_exceeded",
};

/** Why there is no answer. `retryAfter` is in seconds, null if there is no sense in waiting. */
export class Problem extends Error {
  constructor(code, detail = "", { status = null, retryAfter = null, requestId = null } = {}) {
    super(detail);
    Object.assign(this, { code, detail, status, retryAfter, requestId });
  }

  /** The problem document of an answer, or what a proxy's answer amounts to. */
  static of(response, document) {
    const { status, statusText } = response;
    const own = typeof document?.code === "string";
    const code = own ? document.code : (CODES[status] ?? "unexpected_answer");
    const detail = own ? String(document.detail ?? "") : `the answer has the status ${status} ${statusText}`.trim();
    const requestId = document?.request_id ?? response.headers.get("X-Request-ID");
    return new Problem(code, detail, { status, retryAfter: retryAfter(response), requestId });
  }
}

/** The problem in sentences. */
export function sentences({ code, detail, status, requestId }) {
  const [headline, advice] = SENTENCES[code] ?? ["The service did not answer.", ""];
  const source = [status, code, requestId && `request ${requestId}`].filter(Boolean).join(" · ");
  const reason = detail.replace(/; (send a key as|\/docs lists) .*/, ""); // the rest is for programmers
  return { headline, reason: sentence(readable(reason)), advice, source };
}

// in seconds, from either form (RFC 9110, 10.2.3)
function retryAfter(response) {
  const value = response.headers.get("Retry-After");
  if (value === null) return null;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? null : Math.min(Math.max(Math.ceil(seconds), 0), 3600);
}

function sentence(words) {
  return words && words[0].toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}

/** Large numbers in groups of three digits, and bytes also in MiB. */
function readable(detail) {
  if (!/\d bytes/.test(detail)) return detail.replace(/(?<![\w.])\d{5,}(?![\w.]*\w)/g, grouped);
  return detail.replace(/(\d+) bytes|(?<=limit is )(\d+)/g, (_, bytes, limit) => size(bytes ?? limit));
}

export function grouped(number) {
  return Number(number).toLocaleString("en-US");
}

function size(bytes) {
  const mebibytes = (bytes / 2 ** 20).toLocaleString("en-US", { maximumFractionDigits: 1 });
  return bytes < 100_000 ? `${grouped(bytes)} bytes` : `${mebibytes} MiB (${grouped(bytes)} bytes)`;
}
