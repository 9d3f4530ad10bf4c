// The log of a task: follows it while it grows, and keeps a window of it however long it is. Text only
// ever becomes text nodes.
const log = document.getElementById("log");
const MAX_LINES = 3000;
const NEAR = 200;
const END = Number.MAX_SAFE_INTEGER;

function start(state) {
  const { task } = log.dataset;
  const follow = document.getElementById("follow");
  const copy = document.getElementById("copy");
  // One load after the other, in the order they were asked for.
  let loads = Promise.resolve();
  let isLoading = false;

  function items(lines) {
    const fragment = document.createDocumentFragment();
    for (const [, kind, text] of lines) {
      const item = document.createElement("li");
      item.className = kind;
      item.textContent = text;
      fragment.append(item);
    }
    return fragment;
  }

  const fromEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight;
  const toEnd = () => { log.scrollTop = log.scrollHeight; };

  function label(text) {
    follow.setAttribute("aria-pressed", String(state.following));
    follow.textContent = text ?? (state.following ? "Following" : "Follow");
  }

  // Lines come after those that are there, once. What goes at the top does not move what is read.
  function append(lines) {
    const fresh = lines.filter(([seq]) => seq > state.last);
    if (fresh.length === 0) return;
    log.append(items(fresh));
    state.last = fresh[fresh.length - 1][0];
    if (state.first === 0) state.first = fresh[0][0];
    const before = log.scrollHeight;
    const top = log.scrollTop;
    while (log.childElementCount > MAX_LINES) {
      log.firstElementChild.remove();
      state.first += 1;
    }
    log.scrollTop = top - (before - log.scrollHeight);
  }

  function prepend(lines) {
    const fresh = lines.filter(([seq]) => seq < state.first);
    if (fresh.length === 0) return;
    const before = log.scrollHeight;
    const top = log.scrollTop;
    log.prepend(items(fresh));
    log.scrollTop = top + log.scrollHeight - before;
    state.first = fresh[0][0];
    while (log.childElementCount > MAX_LINES) {
      log.lastElementChild.remove();
      state.last -= 1;
    }
  }

  function load(query, put) {
    isLoading = true;
    loads = loads.then(async () => {
      const answer = await fetch(`/tasks/${task}/lines?${query()}`);
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      put(await answer.json());
    }).catch(() => {
      state.following = false;
      label("Follow (it broke off)");
    }).finally(() => { isLoading = false; });
    return loads;
  }

  function jumpToEnd() {
    return load(() => `before=${END}`, (lines) => {
      log.replaceChildren();
      state.first = 0;
      state.last = 0;
      append(lines);
      state.length = Math.max(state.length, state.last);
      toEnd();
    });
  }

  function setFollowing(on) {
    state.following = on;
    label();
    if (!on) return;
    if (state.last < state.length) jumpToEnd();
    else toEnd();
  }

  log.addEventListener("scroll", () => {
    if (state.following && fromEnd() > NEAR) setFollowing(false);
    if (isLoading) return;
    if (log.scrollTop < NEAR && state.first > 1) load(() => `before=${state.first}`, prepend);
    else if (fromEnd() < NEAR && state.last < state.length) load(() => `after=${state.last}`, append);
  });

  // Lines that come in one moment are drawn in one go; a page that nobody sees keeps the newest.
  let waiting = [];
  function draw() {
    const lines = waiting;
    waiting = [];
    if (lines.length === 0) return;
    state.length = Math.max(state.length, lines[lines.length - 1][0]);
    const joins = lines[0][0] <= state.last + 1;
    if (joins && (state.following || log.childElementCount < MAX_LINES)) {
      append(lines);
      if (state.following) toEnd();
    } else if (state.following && !isLoading) {
      jumpToEnd();
    }
  }

  function listen() {
    const source = new EventSource(`/tasks/${task}/events?after=${state.length}`);
    source.onopen = () => label();
    source.onerror = () => label(source.readyState === EventSource.CLOSED ? "Not live any more" : "Connecting …");
    source.onmessage = (message) => {
      const entry = JSON.parse(message.data);
      if (waiting.length === 0) requestAnimationFrame(draw);
      waiting.push([Number(message.lastEventId), entry.kind, entry.text]);
      if (waiting.length > 2 * MAX_LINES) waiting = waiting.slice(-MAX_LINES);
    };
    source.addEventListener("end", () => {
      source.close();
      // Who reads further up is not disturbed.
      if (state.following) location.reload();
      else label("The task is over");
    });
  }

  follow.addEventListener("click", () => setFollowing(!state.following));
  // Browsers offer the clipboard to safe addresses only.
  if (navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      const answer = await fetch(`/tasks/${task}/log`);
      if (!answer.ok) return;
      await navigator.clipboard.writeText(await answer.text());
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    });
  }
  for (const id of ["earlier", "later"]) {
    const link = document.getElementById(id);
    if (link) link.closest("p").hidden = true;
  }
  if (log.dataset.live === "true") {
    follow.hidden = false;
    setFollowing(state.last === state.length);
    listen();
  } else if (state.last === state.length) {
    toEnd();
  }
}

if (log && log.dataset.task) {
  const number = (name) => Number(log.dataset[name]);
  start({ first: number("first"), last: number("last"), length: number("length"), following: true });
}
