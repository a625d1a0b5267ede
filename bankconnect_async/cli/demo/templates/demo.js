(() => {
  "use strict";
  const one = (id) => document.getElementById(id);
  const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

  const facts = (list, values) => {
    for (const [name, value] of Object.entries(values)) {
      const pair = document.createElement("div");
      const term = document.createElement("dt");
      const description = document.createElement("dd");
      term.textContent = name;
      description.textContent = value;
      pair.append(term, description);
      list.append(pair);
    }
  };

  const show = (entry) => {
    const item = one("entry").content.cloneNode(true).firstElementChild;
    const part = (selector) => item.querySelector(selector);
    const at = new Date(entry.at);
    item.dataset.kind = entry.kind;
    part(".title").textContent = entry.title;
    part(".way").textContent = entry.way;
    part(".note").textContent = entry.note;
    part("time").textContent = time.format(at);
    part("time").dateTime = at.toISOString();
    part("pre").textContent = JSON.stringify(entry.raw, null, 2);
    facts(part(".facts"), entry.facts);
    one("entries").prepend(item);
    one("empty").hidden = true;
  };

  const say = (text, isLive) => {
    one("live").textContent = text;
    one("live").classList.toggle("on", isLive);
  };

  const source = new EventSource("/live");
  source.addEventListener("open", () => say("live", true));
  source.addEventListener("error", () => say("not connected", false));
  source.addEventListener("message", (message) =>
    show(JSON.parse(message.data)));
})();
