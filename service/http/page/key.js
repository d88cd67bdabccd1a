// The API key, kept until the tab is closed; in no address and on no disk.

const NAME = "smner-api-key";

export function storedKey() {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return ""; // the browser keeps nothing for this page
  }
}

export function storeKey(key) {
  try {
    if (key) sessionStorage.setItem(NAME, key);
    else sessionStorage.removeItem(NAME);
  } catch {
    // then it lasts as long as the page
  }
}
