(() => {
  "use strict";
  const root = document.currentScript.closest("[data-bankconnect]");
  const settings = JSON.parse(root.dataset.bankconnect);
  const keys = settings.keys;
  let posts = Promise.resolve();

  const read = (data) => {
    try {
      const message = typeof data === "string" ? JSON.parse(data) : data;
      return message?.[keys.type] === settings.type ? message : null;
    } catch {
      return null;
    }
  };

  const closes = (message) => {
    const status = message[keys.status];
    const payload = message[keys.payload] ?? {};
    const failed = status === settings.mayFail && (payload[keys.errorType]
      || (payload[keys.reason] && !payload[keys.message]));
    return !failed && status !== settings.unclear
      && Object.hasOwn(settings.texts, status);
  };

  const post = async (message) => {
    try {
      const response = await fetch(settings.postTo, {
        method: "POST",
        mode: "same-origin",
        credentials: "same-origin",
        keepalive: true,
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ event: message, token: settings.token }),
      });
      return response.ok;
    } catch {
      return false;
    }
  };

  const one = (selector) => root.querySelector(selector);
  const statusOf = (message) => message[keys.status];
  let last = null;

  const show = (text, { again, leave }) => {
    one("[role=status]").textContent = text;
    one("[data-actions]").hidden = !again;
    one("[data-leave]").hidden = !leave;
  };

  const close = (message) => {
    one("iframe").remove();
    const again = settings.exits.includes(statusOf(message));
    show(settings.texts[statusOf(message)], { again, leave: false });
    one("[role=status]").focus();
  };

  const announce = (message, closed, delivered) => {
    root.dispatchEvent(new CustomEvent(settings.eventType, {
      bubbles: true,
      detail: { message, closed, delivered },
    }));
  };

  window.addEventListener("message", (event) => {
    const frame = one("iframe");
    if (!frame || event.origin !== settings.origin
        || event.source !== frame.contentWindow) {
      return;
    }
    const message = read(event.data);
    if (!message) {
      return;
    }
    const closed = closes(message);
    if (closed) {
      close(message);
    } else if (statusOf(message) === settings.unclear) {
      // The customer has left, or may try again in the frame: nobody can
      // tell, so the frame stays.
      show(settings.unclearText, { again: true, leave: true });
    }
    // One after the other, because a failure comes before the exit. The page
    // hears of it last, so that it may leave at once.
    posts = posts.then(async () => {
      const delivered = await post(message);
      last = { message, delivered };
      announce(message, closed, delivered);
    });
  });

  // The element's buttons are not there yet.
  root.addEventListener("click", ({ target }) => {
    if (target.closest("[data-again]")) {
      // Not a reload: that would repeat a post.
      const url = new URL(window.location.href);
      url.hash = "";
      window.location.assign(url);
    } else if (target.closest("[data-leave]")) {
      const message = { [keys.status]: settings.unclear };
      close(message);
      posts = posts.then(() => announce(last.message, true, last.delivered));
    }
  });
})();
