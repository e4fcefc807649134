// The parts of the page that can be clicked: brand, category tree, grid of cards, one item, who is taken for whom.
// Whatever comes from the catalogue becomes a text node or an attribute, never HTML.

const make = (tag, className, text, attributes = {}) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value);
  }
  return node;
};

const address = (name, value) => "?" + new URLSearchParams({ [name]: value });

// A plain click stays in this session; a click for a new tab keeps its meaning.
const link = (node, send) => {
  node.addEventListener("click", (event) => {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    send();
  });
  return node;
};

const photo = (source, title) => {
  const frame = make("span", "photo");
  if (!source) {
    frame.append(make("span", "blank", "No photo"));
    return frame;
  }
  const image = make("img", null, null, { src: source, alt: title, decoding: "async" });
  // Photos of a few pixels (28 × 28 data sets) are to be seen as they are, not blurred.
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 65));
  frame.append(image);
  return frame;
};

const card = (item, send) => {
  const node = make("a", "card", null, {
    href: address("item", item.item_id),
    "data-item": item.item_id,
    "data-score": item.score,
    title: item.title,
  });
  const frame = photo(item.photo, item.title);
  if (item.in_stock === false) frame.append(make("span", "out", "Sold out"));
  if (item.score) frame.append(make("span", "score", item.score, { title: "How similar, at most 1" }));
  node.append(
    frame,
    make("span", "brand", item.brand || "\u00a0", { dir: "auto" }),
    make("span", "title", item.title, { dir: "auto" }),
    make("span", "price", item.price || "\u00a0"),
  );
  return link(node, () => send("pick", item.item_id));
};

const cards = (data, send) => {
  const grid = make("div", "grid");
  grid.style.setProperty("--columns", data.columns);
  grid.append(...data.items.map((item) => card(item, send)));
  return grid;
};

const acts = (data, send) => {
  const row = make("div", "acts-row");
  for (const item of data.items) {
    const node = make("a", "card small", null, {
      href: address("item", item.item_id),
      "data-item": item.item_id,
      title: item.title,
    });
    node.append(photo(item.photo, item.title), make("span", "did", item.did), make("span", "title", item.title, { dir: "auto" }));
    row.append(link(node, () => send("pick", item.item_id)));
  }
  return row;
};

const KINDS = [["view", "View"], ["cart", "Cart"], ["buy", "Buy"]];

const slate = (data, send) => {
  const grid = make("div", "grid");
  grid.style.setProperty("--columns", data.columns);
  for (const item of data.items) {
    const slot = make("div", "slot", null, { "data-item": item.item_id });
    const shown = card(item, data.can_pick ? send : () => {});
    shown.querySelector(".photo").append(make("span", "rank", item.rank));
    if (item.mark) shown.querySelector(".photo").append(make("span", "mark", item.mark));
    slot.append(shown, make("p", "why", item.why || "\u00a0", { dir: "auto", title: item.why }));
    if (data.can_act) {
      const buttons = make("div", "act");
      for (const [kind, label] of KINDS) {
        const button = make("button", kind, label, { type: "button", "aria-label": `${label}: ${item.title}` });
        // Once: a second click before the new slate would be a second act.
        button.addEventListener("click", () => {
          grid.querySelectorAll("button").forEach((other) => { other.disabled = true; });
          send("act", [item.item_id, kind]);
        });
        buttons.append(button);
      }
      slot.append(buttons);
    }
    grid.append(slot);
  }
  return grid;
};

const people = (data, send) => {
  const list = make("nav", "tree", null, { "aria-label": "Shoppers" });
  for (const id of data.ids) {
    const node = make("button", id === data.chosen ? "row chosen" : "row", null, { type: "button", "data-shopper": id });
    node.style.setProperty("--depth", 0);
    node.append(make("span", "label", id, { dir: "auto" }));
    node.addEventListener("click", () => send("shopper", id));
    list.append(node);
  }
  return list;
};

const tree = (data, send) => {
  const list = make("nav", "tree", null, { "aria-label": "Categories" });
  const row = (label, count, value, depth, classes) => {
    const node = make("button", `row ${classes}`, null, { type: "button", "data-category": value });
    node.style.setProperty("--depth", depth);
    node.append(make("span", "label", label, { dir: "auto" }), make("span", "count", count));
    node.addEventListener("click", () => send("category", value));
    return node;
  };
  list.append(row("Everything", data.total, "", 0, data.selected ? "" : "chosen"));
  for (const branch of data.branches) {
    const classes = [branch.is_open && "open", branch.path === data.selected && "chosen"];
    list.append(row(branch.label, branch.count, branch.path, branch.depth, classes.filter(Boolean).join(" ")));
  }
  return list;
};

const stocked = (known) => (known === null ? "Stock not known" : known ? "In stock" : "Sold out");

const item = (data, send) => {
  const view = make("article", "item", null, { "data-item": data.item_id });
  const words = make("div", "words");
  words.append(trail(data.crumbs, "category", send));
  if (data.brand) words.append(make("p", "brand", data.brand, { dir: "auto" }));
  words.append(make("h1", null, data.title, { dir: "auto" }));
  const offer = make("p", "offer");
  offer.append(
    make("span", "price", data.price),
    make("span", data.in_stock ? "stock in" : "stock", stocked(data.in_stock)),
  );
  words.append(offer);
  if (data.description) words.append(make("p", "description", data.description, { dir: "auto" }));
  if (data.classified) words.append(classified(data.classified, send));
  const facts = make("dl", "facts");
  for (const [name, value] of data.facts) {
    facts.append(make("dt", null, name, { dir: "auto" }), make("dd", null, value, { dir: "auto" }));
  }
  words.append(facts);
  view.append(photo(data.photo, data.title), words);
  return view;
};

// A path whose steps lead to what lies at or beneath them.
const trail = (crumbs, name, send) => {
  const path = make("div", "crumbs");
  for (const [category, label] of crumbs) {
    const step = make("a", null, label, { href: address(name, category), dir: "auto" });
    path.append(link(step, () => send(name, category)));
  }
  return path;
};

const bar = (share) => {
  const whole = make("span", "bar", null, { role: "presentation" });
  const part = make("span");
  part.style.width = `${Math.round(1000 * share) / 10}%`;
  whole.append(part);
  return whole;
};

const classified = (data, send) => {
  const line = make("div", "classified", null, { "data-share": data.share });
  const sure = make("span", "sure");
  sure.append(bar(data.share), make("span", "percent", data.percent, { title: "How sure the classifier is" }));
  line.append(make("span", "name", "Classified as"), trail(data.crumbs, "classified", send), sure);
  return line;
};

const told = (data) => {
  const view = make("div", "told");
  view.append(make("p", "lead", data.sure ? "This is" : "Not sure. Perhaps"));
  const steps = make("ol");
  for (const [name, share, percent] of data.steps) {
    const step = make("li");
    step.append(make("span", "label", name, { dir: "auto" }), bar(share), make("span", "percent", percent));
    steps.append(step);
  }
  view.append(steps);
  if (data.others.length) {
    const others = data.others.map(([path, percent]) => `${path.split(" > ").pop()} (${percent})`);
    view.append(make("p", "others", `Or: ${others.join(", ")}`, { dir: "auto" }));
  }
  return view;
};

const NUMBERED = 16;  // categories up to which a cell has room for its count

const confusion = (data, send) => {
  const view = make("div", data.categories.length > NUMBERED ? "confusion dense" : "confusion");
  view.style.setProperty("--many", data.categories.length);
  const table = make("table");
  const head = make("tr");
  const corner = make("th", "corner");
  corner.append(make("span", null, "truly →"), make("span", null, "↓ taken for"));
  head.append(corner);
  for (const one of data.categories) {
    const column = make("th", "true", null, { scope: "col", title: one.path });
    column.append(make("span", null, one.label, { dir: "auto" }));
    head.append(column);
  }
  head.append(make("th", "value", "value"));
  table.append(head);
  data.counts.forEach((counts, predicted) => {
    const own = data.categories[predicted];
    const row = make("tr");
    const name = make("th", "predicted", null, { scope: "row", title: own.path });
    const lead = make("a", null, own.label, { href: address("classified", own.path), dir: "auto" });
    name.append(link(lead, () => send("category", own.path)));
    row.append(name);
    counts.forEach((count, actual) => {
      const share = data.totals[actual] ? count / data.totals[actual] : 0;
      const said = `${count} of ${data.totals[actual]} of “${data.categories[actual].label}” taken for “${own.label}”`;
      const cell = make("td", actual === predicted ? "right" : "wrong", null, {
        title: said, "aria-label": said, "data-cell": `${predicted},${actual}`,
      });
      cell.style.setProperty("--share", share);
      if (count && data.categories.length <= NUMBERED) cell.textContent = count;
      if (share > 0.55) cell.classList.add("deep");
      row.append(cell);
    });
    row.append(make("td", "value", own.value));
    table.append(row);
  });
  view.append(table);
  return view;
};

const brand = (data, send) => {
  const node = make("a", "wordmark", null, { href: "?" });
  node.append(make("span", "name", data.name, { dir: "auto" }), make("span", "line", data.line));
  return link(node, () => send("home", true));
};

const builders = { brand, tree, cards, acts, slate, people, item, told, confusion };

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".piece");
  // A click that comes while the script still runs may be sent a second time with the next one: each has its name.
  const send = (name, value) => setTriggerValue(name, { value, click: `${Date.now()}-${Math.random()}` });
  root.replaceChildren(builders[data.kind](data, send));
  // Another view begins at its top, as another page of a shop would.
  if (data.top !== undefined && window.etalageTop !== data.top) {
    window.etalageTop = data.top;
    document.querySelector('[data-testid="stMain"]')?.scrollTo(0, 0);
  }
}
