(() => {
  "use strict";
  const root = document.getElementById("journey");
  const one = (selector) => root.querySelector(selector);
  const all = (selector) => [...root.querySelectorAll(selector)];
  const asked = { ...root.dataset };
  const framed = window.parent !== window;
  // What a timer can hold; a longer session outlives any page.
  const longest = 2 ** 31 - 1;
  const backs = {
    manual: "manual_upload_back",
    net_banking: "net_banking_back",
  };
  const ends = {
    success: {
      title: "Statements submitted",
      framed: "You can go on in the page around this one.",
      alone: "You can close this page.",
    },
    exit: {
      title: "You have left",
      framed: "Nothing was submitted.",
      alone: "Nothing was submitted. You can close this page.",
    },
  };
  let bank = asked.bank;
  let busy = false;

  const tell = (text) => {
    const alert = one("[role=alert]");
    alert.textContent = text;
    if (text) {
      alert.scrollIntoView({ block: "center" });
    }
  };

  const show = (name) => {
    for (const view of all("[data-view]")) {
      view.hidden = view.dataset.view !== name;
    }
    one("header [data-steps]").hidden = name === "end";
    tell("");
  };

  const enter = (name) => {
    show(name);
    one(`[data-view="${name}"] h1`).focus();
  };

  // What a mobile app puts into the page: Android takes texts, and iOS takes
  // objects.
  const functions = {
    "fb-success": "onSuccess",
    success: "onSuccess",
    "fb-exit": "onExit",
    exit: "onExit",
    error: "onError",
    info: "onInfo",
  };

  const tellApp = (message) => {
    const android = window.BankConnectAndroid;
    android?.onResult?.(JSON.stringify(message));
    android?.[functions[message.status]]?.(JSON.stringify(message.payload));
    const flutter = window.webkit?.messageHandlers?.BankConnectFlutter;
    flutter?.postMessage(message);
  };

  const post = (message) => {
    const entry = document.createElement("li");
    entry.textContent = JSON.stringify(message, null, 2);
    one(".log").append(entry);
    one(".total").textContent = one(".log").childElementCount;
    tellApp(message);
    if (framed) {
      // Anyone may embed the journey, and it is never told who does. So it
      // cannot name a target, no more than the vendor's page can.
      window.parent.postMessage(message, "*");
    }
  };

  const take = async (step) => {
    const answer = await fetch(window.location.href, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(step),
    });
    if (!answer.ok) {
      // There is no going on, and the page itself says why.
      window.location.reload();
      return new Promise(() => {});
    }
    const played = await answer.json();
    played.messages.forEach(post);
    return played;
  };

  const end = (action, redirect) => {
    const { title, ...texts } = ends[action];
    const leads = !framed && redirect !== null;
    one("#end-title").textContent = title;
    one("#end-text").textContent = leads
      ? "Taking you back…"
      : texts[framed ? "framed" : "alone"];
    one("[data-again]").hidden = leads || action !== "exit";
    one("#onward").hidden = !leads;
    enter("end");
    if (leads) {
      one("#onward").href = redirect;
      window.location.assign(redirect);
    }
  };

  const choose = (identifier, name, modes) => {
    bank = identifier;
    for (const place of all(".bank")) {
      place.textContent = name;
    }
    for (const choice of all("[data-open]")) {
      choice.hidden = !modes.split(" ").includes(choice.dataset.open);
    }
  };

  const open = async (name) => {
    if (name === "manual") {
      await take({ action: "manual" });
    }
  };

  const clicks = {
    async bank(button) {
      const { bank: identifier, modes } = button.dataset;
      const next = asked.mode || "modes";
      await take({ action: "bank_selected", bank: identifier });
      choose(identifier, button.textContent, modes);
      await open(next);
      enter(next);
    },

    async open(button) {
      await open(button.dataset.open);
      enter(button.dataset.open);
    },

    async back(button) {
      const { back } = button.dataset;
      if (back in backs) {
        await take({ action: backs[back] });
      }
      enter(back in backs && !asked.mode ? "modes" : "banks");
    },

    async steps(button) {
      const view = button.closest("section");
      const failure = view?.querySelector("select");
      for (const action of button.dataset.steps.split(" ")) {
        const failed = action === "failure";
        const played = await take({
          action,
          mode: view?.dataset.mode,
          bank: bank || undefined,
          error_type: failed ? failure.value : undefined,
        });
        if (failed) {
          tell(`${failure.selectedOptions[0].text}. Try again, or leave.`);
        } else {
          end(action, played.redirect);
        }
      }
    },

    async again() {
      window.location.reload();
    },
  };

  // One thing at a time: who clicks twice means it once.
  const alone = async (work) => {
    if (busy) {
      return;
    }
    busy = true;
    root.setAttribute("aria-busy", "true");
    try {
      await work();
    } catch {
      tell("The sandbox does not answer. Try again.");
    } finally {
      busy = false;
      root.removeAttribute("aria-busy");
    }
  };

  const filter = () => {
    const wanted = one("#search").value.trim().toLowerCase();
    let count = 0;
    for (const button of all("[data-bank]")) {
      const text = `${button.textContent} ${button.dataset.bank}`;
      const fits = text.toLowerCase().includes(wanted);
      button.parentElement.hidden = !fits;
      count += fits;
    }
    one("#count").textContent = count === 1 ? "1 bank" : `${count} banks`;
  };

  const move = (event) => {
    const stops = [
      one("#search"),
      ...all("li:not([hidden]) > [data-bank]"),
    ];
    const at = stops.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1 }[event.key];
    if (stops[to]) {
      event.preventDefault();
      stops[to].focus();
    }
  };

  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const kind = Object.keys(button?.dataset ?? {}).find((name) =>
      Object.hasOwn(clicks, name));
    if (kind) {
      alone(() => clicks[kind](button));
    }
  });
  one("#search").addEventListener("input", filter);
  one("[data-view=banks]").addEventListener("keydown", move);
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) {
      window.location.reload();
    }
  });

  const start = async () => {
    const first = asked.bank ? asked.mode || "modes" : "banks";
    if (asked.bank) {
      choose(asked.bank, asked.bankName, asked.modes);
      one("[data-back=banks]").hidden = true;
      for (const back of all("[data-mode] [data-back]")) {
        back.hidden = Boolean(asked.mode);
      }
    }
    filter();
    show(first);
    await open(first);
  };

  const left = asked.expiresIn * 1000;
  if (left <= longest) {
    setTimeout(() => window.location.reload(), left);
  }
  alone(start);
})();
