// The console's own script: passkeys, forms that change something, and the stream that says what is new.
// Everything else is links, forms and htmx. Nothing here builds HTML from text.
"use strict";
(() => {
  const JSON_TYPE = "application/json";

  // An error whose message is for whoever sees the page.
  class Told extends Error {}

  class Refused extends Told {
    constructor(error, status) {
      super([error.message, error.next_step].filter(Boolean).join(" "));
      this.isFailure = status >= 500;
      this.offersReload = status === 404 || status === 409;
    }
  }

  // Nothing came back, or something else's answer: a proxy's, where the broker is away.
  class Unanswered extends Told {
    constructor() {
      super("The broker does not answer. Nothing was changed.");
    }
  }

  class Unknown extends Told {
    constructor() {
      super("The broker's answer did not come back: it is not known whether this was done. Look at it anew.");
      this.offersReload = true;
    }
  }

  async function post(path, value) {
    const options = {
      method: "POST",
      headers: { "Content-Type": JSON_TYPE, Accept: JSON_TYPE },
      body: JSON.stringify(value ?? {}),
      credentials: "same-origin",
    };
    const answer = await fetch(path, options).catch(() => null);
    const told = await answer?.json().catch(() => null);
    if (answer?.ok && told) return told;
    if (!told?.error?.code) throw new Unanswered();
    if (answer.status === 401 && document.body.classList.contains("signed-in")) ended();
    throw new Refused(told.error, answer.status);
  }

  // A request that does something. It may have been done whatever became of its answer: only a refusal of the broker's
  // own says that it was not.
  async function send(path, value) {
    try {
      const told = await post(path, value);
      if (told.notice ?? told.next) return told;
    } catch (error) {
      if (error instanceof Refused && !error.isFailure) throw error;
    }
    throw new Unknown();
  }

  // --- notices ---

  function notice(text, tone) {
    const box = document.createElement("p");
    box.className = `notice ${tone}`;
    box.textContent = text;
    const close = button("×", () => box.remove());
    close.setAttribute("aria-label", "Dismiss");
    box.append(close);
    const all = document.getElementById("notices");
    all.replaceChildren(box);
    if (tone === "good") setTimeout(() => box.remove(), 8000);
    return box;
  }

  function button(words, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "quiet";
    made.textContent = words;
    made.addEventListener("click", act);
    return made;
  }

  // The page may show what is so no more. Who presses the same key again looks at it anew, and decides nothing by that.
  function offerReload(box) {
    const again = button("Reload", () => location.reload());
    box.lastChild.before(again);
    again.focus();
  }

  // The session has ended, and the page would be the sign-in: at once, but for what somebody has typed into it.
  let isEdited = false;
  let isLeaving = false;
  function ended() {
    const words = "You are not signed in any more. Keep what you typed before you load the page anew.";
    if (isEdited) offerReload(notice(words, "bad"));
    else if (!isLeaving) location.reload();
  }
  document.addEventListener("input", () => {
    isEdited = true;
  });
  document.addEventListener("htmx:before:response", (event) => {
    if (event.detail.ctx.response.status !== 401) return;
    event.preventDefault();
    ended();
  });

  function explained(error) {
    if (error instanceof Told) return error.message;
    if (error?.name === "NotAllowedError" || error?.name === "AbortError") return "The passkey did not answer. Nothing was changed.";
    if (error?.name === "InvalidStateError") return "This device has a passkey of yours already.";
    return "This did not work. Nothing was changed.";
  }

  // htmx itself says nothing of it. What a part that looks anew by itself misses, its lamp shows.
  for (const failure of ["htmx:error", "htmx:response:error"]) {
    document.addEventListener(failure, (event) => {
      const status = event.detail.ctx?.response?.status ?? 0;
      if (!event.target.matches?.("form") || (status && status < 500)) return;
      notice("The broker does not answer, or cannot do this now. Try again in a moment.", "bad");
    });
  }

  // --- passkeys ---

  async function asserted(options) {
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
    return (await navigator.credentials.get({ publicKey })).toJSON();
  }

  async function made(options) {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
    return (await navigator.credentials.create({ publicKey })).toJSON();
  }

  function fields(form) {
    return Object.fromEntries([...new FormData(form)].filter(([, value]) => typeof value === "string"));
  }

  const NOTICE = "percall-notice";

  // A passkey's prompt cannot say what it signs, and it answers at a touch: what cannot be taken back is said here first.
  function confirmed(form) {
    if (!form.dataset.confirm) return true;
    const dialog = document.getElementById("confirm");
    const asking = form.querySelector("[type=submit]");
    document.getElementById("confirm-title").textContent = `${asking.getAttribute("aria-label") ?? asking.textContent}?`;
    document.getElementById("confirm-words").textContent = form.dataset.confirm;
    dialog.querySelector("[value=yes]").textContent = asking.textContent;
    dialog.returnValue = "no"; // as Escape leaves it
    dialog.showModal();
    return new Promise((done) => {
      dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
    });
  }

  async function change(form) {
    // As it was pressed: while words are read, the page may show something else in the form's place.
    const { action, subject, shown, ...values } = fields(form);
    if (!(await confirmed(form))) return;
    const asked = { action, subject, shown, values };
    const { id, nonce, options } = await post("/console/changes/ask", asked);
    notice("Confirm with your passkey.", "busy");
    const credential = await asserted(options);
    const done = await send("/console/changes", { ...asked, id, nonce, credential });
    sessionStorage.setItem(NOTICE, done.notice);
    location.assign(location.href.split("#")[0]);
  }

  async function enrol(form) {
    const values = fields(form);
    const { id, nonce, options } = await post("/console/passkeys/ask", { values });
    const credential = await made(options);
    const done = await send("/console/passkeys", { values, id, nonce, credential });
    sessionStorage.setItem(NOTICE, done.notice);
    location.reload();
  }

  // --- signing in ---

  const SIGN_IN = {
    async link() {
      return send("/console/sign-in/link", { code });
    },
    async passkey() {
      const { id, nonce, options } = await post("/console/sign-in/passkey/ask");
      return send("/console/sign-in/passkey", { id, nonce, credential: await asserted(options) });
    },
    async provider() {
      return { next: (await post("/console/sign-in/provider/ask")).location };
    },
    async answer() {
      return send("/console/sign-in/provider", answer);
    },
  };

  let code = "";
  let answer = null;

  const HOME = "/console/";
  const SIGN_IN_PAGE = "/console/sign-in";
  const WANTED = "percall-wanted";

  // Whose session has ended sees the sign-in where the page would be that they asked for. It is kept for this tab alone,
  // since a provider, or a link, is elsewhere.
  function wanted() {
    const kept = sessionStorage.getItem(WANTED) ?? HOME;
    sessionStorage.removeItem(WANTED);
    if (!kept.startsWith(HOME) || kept.startsWith(SIGN_IN_PAGE)) return HOME;
    // A browser may read a path otherwise than it is written: dots, backslashes, line ends. Ours are as it reads them.
    const { pathname, search, hash } = new URL(kept, location.origin);
    return pathname + search + hash === kept ? kept : HOME;
  }

  function prepareSignIn() {
    const byLink = document.getElementById("by-link");
    if (!byLink) return;
    if (!location.pathname.startsWith(SIGN_IN_PAGE)) {
      sessionStorage.setItem(WANTED, location.pathname + location.search + location.hash);
      return;
    }
    code = location.hash.slice(1);
    const query = new URLSearchParams(location.search);
    if (query.has("code")) answer = { code: query.get("code"), state: query.get("state") ?? "" };
    // Neither stays in the address bar, the history, or what the next page is told.
    if (code || answer) history.replaceState(null, "", SIGN_IN_PAGE);
    const shown = answer ? document.getElementById("by-provider-answer") : code ? byLink : null;
    if (!shown) return;
    shown.hidden = false;
    document.getElementById("ways").hidden = true;
    shown.querySelector("button").focus();
  }

  async function signIn(form) {
    const problem = document.getElementById("problem");
    problem.hidden = true;
    try {
      const { next } = await SIGN_IN[form.dataset.signIn]();
      const to = next === HOME ? wanted() : next;
      // The same address, to its fragment, would only be scrolled to.
      if (to === location.pathname + location.search + location.hash) location.reload();
      else location.assign(to);
    } catch (error) {
      problem.textContent = explained(error);
      problem.hidden = false;
      document.getElementById("ways").hidden = false;
      for (const one of document.querySelectorAll("#by-link, #by-provider-answer")) one.hidden = true;
    }
  }

  async function leave(form) {
    isEdited = false;
    isLeaving = true; // to the sign-in by itself, and from there to the first page
    location.assign((await send(form.getAttribute("action"))).next);
  }

  // --- forms ---

  const HANDLERS = [
    ["data-change", change],
    ["data-enrol", enrol],
    ["data-sign-in", signIn],
    ["data-post", leave],
  ];

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const handler = HANDLERS.find(([name]) => form.hasAttribute(name))?.[1];
    if (!handler) return;
    event.preventDefault();
    if (form.dataset.busy) return;
    form.dataset.busy = "yes";
    const buttons = form.querySelectorAll("button");
    for (const button of buttons) button.setAttribute("aria-disabled", "true");
    try {
      await handler(form);
    } catch (error) {
      const box = notice(explained(error), "bad");
      if (error.offersReload) offerReload(box);
    } finally {
      delete form.dataset.busy;
      for (const button of buttons) button.removeAttribute("aria-disabled");
    }
  });

  // --- what is new ---

  const SHORTEST_PAUSE_MS = 1000;
  const LONGEST_PAUSE_MS = 30_000;
  const EXPIRED_MS = 20_000;

  // Only while the page is seen: a browser has few connections to one host, and pages behind others would take them all.
  function listen() {
    const lamps = document.querySelectorAll("[data-live]");
    const show = (isOn) => lamps.forEach((lamp) => lamp.classList.toggle("off", !isOn));
    const tell = (name) => document.body.dispatchEvent(new CustomEvent(`${name}-changed`));
    let stream = null;
    let pause = SHORTEST_PAUSE_MS;
    let again = 0;
    let passing = 0;

    function open() {
      // That a question has expired nothing tells but time.
      passing = setInterval(() => tell("approvals"), EXPIRED_MS);
      // With the mark of the page as it was loaded: what happened since is told, whether it was told before or not.
      stream = new EventSource(`/console/events?live&since=${document.getElementById("main").dataset.mark}`);
      for (const name of ["calls", "approvals", "changes"]) stream.addEventListener(name, () => tell(name));
      stream.addEventListener("ended", () => {
        close();
        ended();
      });
      stream.addEventListener("open", () => {
        show(true);
        pause = SHORTEST_PAUSE_MS;
      });
      stream.addEventListener("error", () => {
        show(false);
        // A browser asks again where a connection broke; where something was answered, as a proxy's 502, it gives up.
        if (stream?.readyState !== EventSource.CLOSED) return;
        again = setTimeout(attend, pause);
        pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
      });
    }

    function close() {
      clearTimeout(again);
      clearInterval(passing);
      stream?.close();
      stream = null;
    }

    function attend() {
      close();
      if (document.visibilityState === "visible") open();
    }

    document.addEventListener("visibilitychange", attend);
    addEventListener("pagehide", close);
    attend();
  }

  document.addEventListener("DOMContentLoaded", () => {
    prepareSignIn();
    const waiting = sessionStorage.getItem(NOTICE);
    if (waiting) {
      sessionStorage.removeItem(NOTICE);
      notice(waiting, "good");
    }
    if (document.body.classList.contains("signed-in")) {
      sessionStorage.removeItem(WANTED);
      listen();
    }
  });
})();
