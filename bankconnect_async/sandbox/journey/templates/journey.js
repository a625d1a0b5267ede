(() => {
  "use strict";
  const root = document.getElementById("journey");
  const find = (selector) => root.querySelector(selector);
  const findAll = (selector) => [...root.querySelectorAll(selector)];
  const requested = { ...root.dataset };
  const isFramed = window.parent !== window;
  // The longest delay of a timer, in milliseconds.
  const MAX_DELAY = 2 ** 31 - 1;
  const BACK_EVENTS = {
    manual: "manual_upload_back",
    net_banking: "net_banking_back",
  };
  const ENDS = {
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
  let bank = requested.bank;
  let isBusy = false;

  const showAlert = (text) => {
    const alert = find("[role=alert]");
    alert.textContent = text;
    if (text) {
      alert.scrollIntoView({ block: "center" });
    }
  };

  const show = (name) => {
    for (const view of findAll("[data-view]")) {
      view.hidden = view.dataset.view !== name;
    }
    find("header [data-steps]").hidden = name === "end";
    showAlert("");
  };

  const enter = (name) => {
    show(name);
    find(`[data-view="${name}"] h1`).focus();
  };

  // The functions that a mobile app puts into the page, by status.
  const APP_FUNCTIONS = {
    "fb-success": "onSuccess",
    success: "onSuccess",
    "fb-exit": "onExit",
    exit: "onExit",
    error: "onError",
    info: "onInfo",
  };

  const notifyApp = (message) => {
    // An Android function takes texts only, and iOS takes objects.
    const android = window.BankConnectAndroid;
    android?.onResult?.(JSON.stringify(message));
    const name = APP_FUNCTIONS[message.status];
    android?.[name]?.(JSON.stringify(message.payload));
    const flutter = window.webkit?.messageHandlers?.BankConnectFlutter;
    flutter?.postMessage(message);
  };

  const post = (message) => {
    const entry = document.createElement("li");
    entry.textContent = JSON.stringify(message, null, 2);
    find(".log").append(entry);
    find(".total").textContent = find(".log").childElementCount;
    notifyApp(message);
    if (isFramed) {
      // Like the vendor's page, it does not know the page that embeds it, so
      // it cannot name a target origin.
      window.parent.postMessage(message, "*");
    }
  };

  const doStep = async (step) => {
    const response = await fetch(window.location.href, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(step),
    });
    if (!response.ok) {
      // The journey is closed, and the page then says why.
      window.location.reload();
      return new Promise(() => {});
    }
    const played = await response.json();
    played.messages.forEach(post);
    return played;
  };

  const end = (action, redirect) => {
    const { title, ...texts } = ENDS[action];
    const redirects = !isFramed && redirect !== null;
    find("#end-title").textContent = title;
    find("#end-text").textContent = redirects
      ? "Taking you back…"
      : texts[isFramed ? "framed" : "alone"];
    find("[data-again]").hidden = redirects || action !== "exit";
    find("#onward").hidden = !redirects;
    enter("end");
    if (redirects) {
      find("#onward").href = redirect;
      window.location.assign(redirect);
    }
  };

  const choose = (identifier, name, modes) => {
    bank = identifier;
    for (const place of findAll(".bank")) {
      place.textContent = name;
    }
    for (const choice of findAll("[data-open]")) {
      choice.hidden = !modes.split(" ").includes(choice.dataset.open);
    }
  };

  const open = async (name) => {
    if (name === "manual") {
      await doStep({ action: "manual" });
    }
  };

  const clickHandlers = {
    async bank(button) {
      const { bank: identifier, modes } = button.dataset;
      const next = requested.mode || "modes";
      await doStep({ action: "bank_selected", bank: identifier });
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
      if (back in BACK_EVENTS) {
        await doStep({ action: BACK_EVENTS[back] });
      }
      enter(back in BACK_EVENTS && !requested.mode ? "modes" : "banks");
    },

    async steps(button) {
      const view = button.closest("section");
      const failure = view?.querySelector("select");
      for (const action of button.dataset.steps.split(" ")) {
        const failed = action === "failure";
        const played = await doStep({
          action,
          mode: view?.dataset.mode,
          bank: bank || undefined,
          error_type: failed ? failure.value : undefined,
        });
        if (failed) {
          showAlert(`${failure.selectedOptions[0].text}. Try again, or leave.`);
        } else {
          end(action, played.redirect);
        }
      }
    },

    async again() {
      window.location.reload();
    },
  };

  // A second click during a step is ignored.
  const runExclusively = async (work) => {
    if (isBusy) {
      return;
    }
    isBusy = true;
    root.setAttribute("aria-busy", "true");
    try {
      await work();
    } catch {
      showAlert("The sandbox does not answer. Try again.");
    } finally {
      isBusy = false;
      root.removeAttribute("aria-busy");
    }
  };

  const filter = () => {
    const wanted = find("#search").value.trim().toLowerCase();
    let count = 0;
    for (const button of findAll("[data-bank]")) {
      const text = `${button.textContent} ${button.dataset.bank}`;
      const fits = text.toLowerCase().includes(wanted);
      button.parentElement.hidden = !fits;
      count += fits;
    }
    find("#count").textContent = count === 1 ? "1 bank" : `${count} banks`;
  };

  const moveFocus = (event) => {
    const stops = [
      find("#search"),
      ...findAll("li:not([hidden]) > [data-bank]"),
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
    const action = Object.keys(button?.dataset ?? {}).find((name) =>
      Object.hasOwn(clickHandlers, name));
    if (action) {
      runExclusively(() => clickHandlers[action](button));
    }
  });
  find("#search").addEventListener("input", filter);
  find("[data-view=banks]").addEventListener("keydown", moveFocus);
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) {
      window.location.reload();
    }
  });

  const start = async () => {
    const first = requested.bank ? requested.mode || "modes" : "banks";
    if (requested.bank) {
      choose(requested.bank, requested.bankName, requested.modes);
      find("[data-back=banks]").hidden = true;
      for (const back of findAll("[data-mode] [data-back]")) {
        back.hidden = Boolean(requested.mode);
      }
    }
    filter();
    show(first);
    await open(first);
  };

  const remaining = requested.expiresIn * 1000;
  if (remaining <= MAX_DELAY) {
    setTimeout(() => window.location.reload(), remaining);
  }
  runExclusively(start);
})();
