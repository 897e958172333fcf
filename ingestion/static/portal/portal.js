// These scripts make pages more comfortable. Every page also works without them.
"use strict";

// <form data-once> is sent only once, even if its button is clicked again before the answer comes.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!("once" in form.dataset)) return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "true";
});

// The back button may show the old page from the browser's memory: its forms can be sent again.
window.addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

// --- Live figures ---
// The page is fetched again every few seconds, and its [data-live] elements are refreshed. Only texts
// and attributes that differ change: focus, selection, scroll position and opened details stay. A
// hidden tab does not refresh.

const refresh = document.querySelector("[data-refresh]");
if (refresh) {
  const select = refresh.querySelector("select");
  const state = refresh.querySelector("[data-refresh-state]");
  const kept = localStorage.getItem("refresh-seconds");
  if ([...select.options].some((option) => option.value === kept)) select.value = kept;
  refresh.hidden = false;

  let timer;
  let asking = false;
  const plan = () => {
    clearTimeout(timer);
    const seconds = Number(select.value);
    if (seconds && !document.hidden) timer = setTimeout(renew, seconds * 1000);
  };
  const renew = async () => {
    if (asking) return;
    asking = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected) throw new Error("You are signed out.");
      if (!answer.ok) throw new Error(`The portal answers ${answer.status}.`);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelectorAll("[data-live]").forEach((element, at) => {
        become(element, page.querySelectorAll("[data-live]")[at]);
        element.classList.remove("stale");
      });
      state.textContent = "";
    } catch (fault) {
      state.textContent = fault instanceof TypeError ? "The portal does not answer." : fault.message;
      document.querySelectorAll("[data-live]").forEach((element) => element.classList.add("stale"));
    }
    asking = false;
    plan();
  };
  select.addEventListener("change", () => {
    localStorage.setItem("refresh-seconds", select.value);
    plan();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && Number(select.value)) renew();
    else plan();
  });
  document.querySelector("[data-refresh-now]").addEventListener("click", (event) => {
    event.preventDefault();
    renew();
  });
  plan();
}

// Makes one element equal to another, with as few changes as possible.
function become(old, fresh) {
  if (!fresh) return;
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of old.getAttributeNames()) {
    // Keeps `open`: the person opened it.
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  const alike = (a, b) => a && b && a.nodeName === b.nodeName;
  if (before.length === after.length && before.every((node, at) => alike(node, after[at]))) {
    before.forEach((node, at) => {
      if (node.nodeType === Node.ELEMENT_NODE) become(node, after[at]);
      else if (node.nodeValue !== after[at].nodeValue) node.nodeValue = after[at].nodeValue;
    });
  } else if (!old.contains(document.activeElement) || old === document.activeElement) {
    old.replaceChildren(...after);
  } else {
    // The focus is inside: the nodes before and after the focused branch are replaced, not the branch.
    const branch = before.findIndex((node) => node.contains(document.activeElement));
    const same = after.findIndex((node) => alike(node, before[branch]) && node.className === before[branch].className);
    if (same < 0) return;
    before.forEach((node, at) => at !== branch && node.remove());
    before[branch].before(...after.slice(0, same));
    before[branch].after(...after.slice(same + 1));
    if (before[branch].nodeType === Node.ELEMENT_NODE) become(before[branch], after[same]);
  }
}

// <input type="checkbox" data-check-all="name"> selects every box of that name, or none.
for (const all of document.querySelectorAll("[data-check-all]")) {
  const boxes = [...document.getElementsByName(all.dataset.checkAll)].filter((box) => box.type === "checkbox");
  all.hidden = false;
  all.addEventListener("change", () => boxes.forEach((box) => { box.checked = all.checked; }));
  boxes.forEach((box) => box.addEventListener("change", () => { all.checked = boxes.every((one) => one.checked); }));
}

// --- Uploads ---
// <form data-upload> shows the progress of sending, and accepts a dropped file.

document.querySelectorAll("form[data-upload]").forEach(sendWithBar);

function sendWithBar(form) {
  const zone = form.querySelector("[data-dropzone]");
  const input = form.querySelector("input[type=file]");
  const progress = form.querySelector("[data-upload-progress]");
  const words = form.querySelector("[data-upload-words]");
  const most = Number(form.dataset.maxBytes);

  for (const kind of ["dragenter", "dragover"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) {
    zone.addEventListener(kind, () => zone.classList.remove("over"));
  }
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) {
      input.files = event.dataTransfer.files;
      input.dispatchEvent(new Event("change"));
    }
  });
  input.addEventListener("change", () => {
    const file = input.files[0];
    input.setCustomValidity(file && file.size > most ? "This file is too large to upload: split it." : "");
    input.reportValidity();
  });

  form.addEventListener("submit", (event) => {
    if (event.defaultPrevented || !input.files.length) return;
    event.preventDefault();
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      progress.querySelector("progress").value = Math.round((loaded / total) * 100);
      words.textContent = loaded < total ? `${Math.round((loaded / total) * 100)} % sent` : "Sent. The portal checks it";
    });
    request.addEventListener("load", () => {
      if (request.responseURL !== form.action) {
        location.assign(request.responseURL);
        return;
      }
      const page = new DOMParser().parseFromString(request.responseText, "text/html");
      const fresh = page.querySelector("form[data-upload]");
      if (!fresh) {
        words.textContent = `Nothing was uploaded: the portal answers ${request.status}. Reload the page and try again.`;
        return;
      }
      document.title = page.title;
      form.replaceWith(document.adoptNode(fresh));
      sendWithBar(fresh);
      const notice = fresh.querySelector("[role=alert]");
      if (notice) {
        notice.tabIndex = -1;
        notice.focus();
      }
    });
    request.addEventListener("error", () => {
      words.textContent = "The connection broke. Send the file again.";
      delete form.dataset.sent;
    });
    progress.hidden = false;
    request.send(new FormData(form));
  });
}

// <section data-follow="address"> shows the numbers from that address until they no longer change.
for (const section of document.querySelectorAll("[data-follow]:not([data-follow-still])")) {
  const follow = async () => {
    let again = 5000;
    if (!document.hidden) {
      try {
        const answer = await fetch(section.dataset.follow, { headers: { Accept: "application/json" } });
        const found = await answer.json();
        if (found.state !== section.dataset.followState) {
          location.reload();
          return;
        }
        for (const element of section.querySelectorAll("[data-follow-text]")) {
          const text = found[element.dataset.followText];
          if (element.textContent !== text) element.textContent = text;
        }
        for (const element of section.querySelectorAll("[data-follow-value]")) {
          element.value = found[element.dataset.followValue];
        }
        if (!found.moving) return;
        if (found.running) again = 1000;
      } catch {
        // The next attempt may succeed. Until then the old numbers stay.
      }
    }
    setTimeout(follow, again);
  };
  setTimeout(follow, 700);
}
