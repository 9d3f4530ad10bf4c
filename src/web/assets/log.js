// Follows the log of a running task. Text only ever becomes text nodes.
const log = document.getElementById("log");
if (log && log.dataset.live === "true") {
  const source = new EventSource(log.dataset.events);
  source.onmessage = (message) => {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const entry = JSON.parse(message.data);
    const line = document.createElement("li");
    line.className = entry.kind;
    line.textContent = entry.text;
    log.append(line);
    if (atEnd) log.scrollTop = log.scrollHeight;
  };
  source.addEventListener("end", () => {
    source.close();
    location.reload();
  });
}
