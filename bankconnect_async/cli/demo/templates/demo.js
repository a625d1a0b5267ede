(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

  const listFields = (list, values) => {
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
    const item = byId("entry").content.cloneNode(true).firstElementChild;
    const part = (selector) => item.querySelector(selector);
    const at = new Date(entry.at);
    item.dataset.kind = entry.kind;
    part(".title").textContent = entry.title;
    part(".source").textContent = entry.source;
    part(".note").textContent = entry.note;
    part("time").textContent = time.format(at);
    part("time").dateTime = at.toISOString();
    part("pre").textContent = JSON.stringify(entry.raw, null, 2);
    listFields(part(".fields"), entry.fields);
    byId("entries").prepend(item);
    byId("empty").hidden = true;
  };

  const showStatus = (text, isLive) => {
    byId("live").textContent = text;
    byId("live").classList.toggle("on", isLive);
  };

  const source = new EventSource("/live");
  source.addEventListener("open", () => showStatus("live", true));
  source.addEventListener("error", () => showStatus("not connected", false));
  source.addEventListener("message", (message) =>
    show(JSON.parse(message.data)));
})();
