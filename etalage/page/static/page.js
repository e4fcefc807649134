// The page works without this file. With it, the grid follows what is typed and chosen without a new page.
"use strict";
document.documentElement.classList.add("js");

const PARTS = "[data-part]";
let asked = 0;
let at = location.pathname + location.search;

// Show the page at an address by its parts, so that what is typed into, and the open sheet, stay as they are.
const show = async (address, { history: how = "push", focus = null } = {}) => {
  const mine = ++asked;
  document.documentElement.setAttribute("aria-busy", "true");
  let found;
  try {
    const answer = await fetch(address, { headers: { accept: "text/html" } });
    found = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    location.assign(address); // the browser says what is wrong
    return;
  }
  if (mine !== asked) return; // something newer was asked meanwhile
  document.documentElement.removeAttribute("aria-busy");
  const parts = [...document.querySelectorAll(PARTS)];
  const others = new Map([...found.querySelectorAll(PARTS)].map((one) => [one.dataset.part, one]));
  if (parts.length !== others.size) { location.assign(address); return; } // another kind of page
  const held = document.activeElement;
  const again = held && (held.id ? `#${CSS.escape(held.id)}` : held.dataset.value !== undefined
    && `#${held.closest("[id]").id} [data-value="${CSS.escape(held.dataset.value)}"]`);
  const typed = held && held.matches("input:not([type=checkbox])") ? [held.value, held.selectionStart] : null;
  for (const part of parts) part.replaceWith(others.get(part.dataset.part));
  document.title = found.title;
  const place = found.querySelector("[name=place]");
  if (place) document.querySelector("[name=place]").value = place.value;
  const search = document.querySelector("#q");
  if (search !== document.activeElement) search.value = found.querySelector("#q").value;
  if (how === "push") history.pushState({}, "", address);
  if (how === "replace") history.replaceState({}, "", address);
  at = address;
  const next = (again && document.querySelector(again)) || (focus && document.querySelector(focus));
  if (next && next !== document.activeElement) {
    next.focus({ preventScroll: true });
    if (typed && next.type === "text") next.setSelectionRange(typed[1], typed[1]);
  }
  document.querySelector("#said").textContent =
    [...document.querySelectorAll(".instead, #amount, main .notice h2")].map((one) => one.textContent).join(" ");
  small();
};

// The address that a form leads to; fields without a value ask nothing.
const address = (form) => {
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  return query.size ? `/?${query}` : "/";
};

// Photos of a few pixels (28 × 28 data sets) are to be seen as they are, not blurred.
const small = () => {
  for (const image of document.querySelectorAll(".photo img, .uploaded")) {
    const look = () => image.classList.toggle("tiny", image.naturalWidth > 0 && image.naturalWidth < 65);
    if (image.complete) look(); else image.addEventListener("load", look, { once: true });
  }
};

const inGrid = () => document.querySelector("[data-part=results]") !== null;
let waiting;
document.addEventListener("input", (event) => {
  const form = event.target.form;
  if (form?.dataset.live !== "search" || !inGrid()) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => show(address(form), { history: "replace" }), 250);
});
document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (event.target.type === "file" && form?.matches("[data-photo]") && event.target.files.length) form.requestSubmit();
  else if (form && ["filters", "sort"].includes(form.dataset.live) && event.target.checkValidity()) show(address(form));
});
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("[data-once]")) { // a second click before the new slate would be a second act
    if (form.dataset.sent) event.preventDefault();
    document.querySelectorAll("[data-once]").forEach((other) => { other.dataset.sent = "yes"; });
  } else if (form.dataset.live && inGrid()) {
    event.preventDefault();
    clearTimeout(waiting);
    show(address(form));
    form.closest("[popover]")?.hidePopover?.();
  }
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-swap]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  show(link.getAttribute("href"), { focus: "#main" });
});
const here = () => location.pathname + location.search;
addEventListener("popstate", () => { if (here() !== at) show(here(), { history: "keep" }); }); // else: #main
addEventListener("pageshow", (event) => { // the back button brings a page as it was left
  if (event.persisted) document.querySelectorAll("[data-sent]").forEach((form) => { delete form.dataset.sent; });
});

// A photo may be dropped anywhere.
document.addEventListener("dragover", (event) => {
  if ([...event.dataTransfer.types].includes("Files")) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  const input = document.querySelector("[data-photo] input[type=file]");
  if (!event.dataTransfer.files.length || !input) return;
  event.preventDefault();
  input.files = event.dataTransfer.files;
  input.form.requestSubmit();
});
small();
