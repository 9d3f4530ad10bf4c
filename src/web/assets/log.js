// The log of a task: follows it while it grows, and keeps a window of it however long it is. Text only
// ever becomes text nodes.
const log = document.getElementById("log");
const MAX_LINES = 3000;
const NEAR = 200;

function start(state) {
  const { task } = log.dataset;
  const follow = document.getElementById("follow");
  const copy = document.getElementById("copy");
  let loading = false;
  let source = null;

  function line([seq, kind, text]) {
    const item = document.createElement("li");
    item.className = kind;
    item.textContent = text;
    item.dataset.seq = seq;
    return item;
  }

  function setFollowing(on) {
    state.following = on;
    follow.setAttribute("aria-pressed", String(on));
    follow.textContent = on ? "Following" : "Follow";
    if (on && state.last < state.length) jumpToEnd();
    else if (on) log.scrollTop = log.scrollHeight;
  }

  function append(lines) {
    if (lines.length === 0) return;
    const fragment = document.createDocumentFragment();
    for (const one of lines) fragment.append(line(one));
    log.append(fragment);
    state.last = lines[lines.length - 1][0];
    if (state.first === 0) state.first = lines[0][0];
    while (log.childElementCount > MAX_LINES) {
      log.firstElementChild.remove();
      state.first += 1;
    }
  }

  function prepend(lines) {
    if (lines.length === 0) return;
    const height = log.scrollHeight;
    const top = log.scrollTop;
    const fragment = document.createDocumentFragment();
    for (const one of lines) fragment.append(line(one));
    log.prepend(fragment);
    log.scrollTop = top + log.scrollHeight - height;
    state.first = lines[0][0];
    while (log.childElementCount > MAX_LINES) {
      log.lastElementChild.remove();
      state.last -= 1;
    }
  }

  async function fetchLines(query) {
    const answer = await fetch(`/tasks/${task}/lines?${query}`);
    return answer.ok ? answer.json() : [];
  }

  async function load(query, put) {
    if (loading) return;
    loading = true;
    try {
      put(await fetchLines(query));
    } finally {
      loading = false;
    }
  }

  async function jumpToEnd() {
    await load(`before=${Number.MAX_SAFE_INTEGER}`, (lines) => {
      log.replaceChildren();
      state.first = 0;
      append(lines);
      log.scrollTop = log.scrollHeight;
    });
  }

  log.addEventListener("scroll", () => {
    const fromEnd = log.scrollHeight - log.scrollTop - log.clientHeight;
    if (state.following && fromEnd > NEAR) setFollowing(false);
    if (log.scrollTop < NEAR && state.first > 1) load(`before=${state.first}`, prepend);
    if (fromEnd < NEAR && state.last < state.length) load(`after=${state.last}`, append);
  });

  // Lines that come in one moment are drawn in one go.
  let waiting = [];
  function draw() {
    const lines = waiting;
    waiting = [];
    if (lines.length === 0) return;
    const isNext = lines[0][0] === state.last + 1;
    state.length = Math.max(state.length, lines[lines.length - 1][0]);
    // A window that was scrolled away from the end stays where it is.
    if (isNext && (state.following || log.childElementCount < MAX_LINES)) {
      append(lines);
      if (state.following) log.scrollTop = log.scrollHeight;
    }
  }

  function listen() {
    source = new EventSource(`/tasks/${task}/events?after=${state.length}`);
    source.onmessage = (message) => {
      const entry = JSON.parse(message.data);
      if (waiting.length === 0) requestAnimationFrame(draw);
      waiting.push([Number(message.lastEventId), entry.kind, entry.text]);
    };
    source.addEventListener("end", () => {
      source.close();
      location.reload();
    });
  }

  follow.hidden = false;
  follow.addEventListener("click", () => setFollowing(!state.following));
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    const text = Array.from(log.children, (item) => item.textContent).join("\n");
    await navigator.clipboard.writeText(text);
    copy.textContent = "Copied";
  });
  for (const id of ["earlier", "later"]) {
    const link = document.getElementById(id);
    if (link) link.closest("p").hidden = true;
  }
  if (log.dataset.live === "true") {
    setFollowing(state.last === state.length);
    listen();
  } else {
    follow.hidden = true;
    if (state.last === state.length) log.scrollTop = log.scrollHeight;
  }
}

if (log && log.dataset.task) {
  const number = (name) => Number(log.dataset[name]);
  start({ first: number("first"), last: number("last"), length: number("length"), following: true });
}
