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

  const showCampaign = ({ figures, customers, rows }) => {
    for (const [name, value] of Object.entries(figures)) {
      document.querySelector(`[data-figure="${name}"]`).textContent =
        value.toLocaleString("en-IN");
    }
    for (const [id, { state, sessions }] of Object.entries(customers)) {
      const link = document.querySelector(`[data-customer="${id}"]`);
      link.dataset.state = state;
      link.querySelector(".state").textContent = state;
      link.querySelector(".sessions").textContent =
        `\u00b7 ${sessions} ${sessions === 1 ? "session" : "sessions"}`;
    }
    byId("rows").replaceChildren(...rows.map(makeRow));
    byId("no-rows").hidden = rows.length > 0;
    byId("table").hidden = rows.length === 0;
  };

  const makeRow = (cells) => {
    const row = document.createElement("tr");
    for (const text of cells) {
      row.insertCell().textContent = text;
    }
    return row;
  };

  const source = new EventSource(document.querySelector("main").dataset.live);
  source.addEventListener("open", () => showStatus("live", true));
  source.addEventListener("error", () => showStatus("not connected", false));
  source.addEventListener("message", (message) =>
    show(JSON.parse(message.data)));
  if (byId("rows")) {
    source.addEventListener("campaign", (message) =>
      showCampaign(JSON.parse(message.data)));
  }
})();
