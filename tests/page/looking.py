"""What is looked for on every page, by scripts that return what is wrong."""

_VISIBLE = """const visible = (one) => !one.closest('.unseen')
  && one.checkVisibility({ visibilityProperty: true });"""

LABELLED = """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
  .filter((one) => ![...one.labels ?? []].some((label) => label.textContent.trim()) && !one.ariaLabel)
  .map((one) => one.outerHTML)"""

NAMED = """() => [...document.querySelectorAll('a, button, summary')]
  .filter((one) => !one.textContent.trim() && !one.ariaLabel).map((one) => one.outerHTML)"""

PICTURES = """() => [...document.querySelectorAll('img')]
  .filter((one) => !one.hasAttribute('alt') || !one.width || !one.getAttribute('height')
                   || (one.complete && one.naturalWidth === 0))
  .map((one) => one.outerHTML)"""

HEADINGS = """() => {
  const levels = [...document.querySelectorAll('main :is(h1, h2, h3, h4)')].map((one) => +one.tagName[1]);
  const wrong = levels.flatMap((level, n) => level - (levels[n - 1] ?? 0) > 1 ? [[n, level]] : []);
  return levels.filter((level) => level === 1).length === 1 ? wrong : ['h1', ...levels];
}"""

LANDMARKS = """() => ['header', 'main', 'footer', '[role=status]', 'html[lang]', 'header search', '.skip']
  .filter((one) => document.querySelectorAll(one).length !== 1)"""

IDS = """() => {
  const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
  const meant = [...document.querySelectorAll('[for], [aria-labelledby], [popovertarget]')].map(
    (one) => one.htmlFor || one.getAttribute('aria-labelledby') || one.getAttribute('popovertarget'));
  return [...ids.filter((id, n) => ids.indexOf(id) !== n), ...meant.filter((id) => !ids.includes(id))];
}"""

WIDTH = """() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return wide > 0 ? [wide] : [];
}"""

CONTRAST = (
    """() => {
  """
    + _VISIBLE
    + """
  const rgb = (text) => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return text.startsWith('color(srgb') ? [...parts.slice(0, 3).map((p) => 255 * p), parts[3] ?? 1]
      : [parts[0], parts[1], parts[2], parts[3] ?? 1];
  };
  const over = (front, back) =>
    front.slice(0, 3).map((part, n) => part * front[3] + back[n] * (1 - front[3]));
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((p) => p / 255)
      .map((p) => (p <= 0.04045 ? p / 12.92 : ((p + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    if (!one) return [255, 255, 255];
    const own = rgb(getComputedStyle(one).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(one.parentElement));
  };
  const wrong = [];
  for (const one of document.querySelectorAll('body *')) {
    const texts = [...one.childNodes].filter((node) => node.nodeType === 3);
    const own = texts.map((node) => node.data.trim()).join('');
    if (!own || !visible(one)) continue;
    const back = ground(one), front = over(rgb(getComputedStyle(one).color), back);
    const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) wrong.push([own.slice(0, 40), ratio.toFixed(2)]);
  }
  return wrong;
}"""
)

LOOKS = {
    "every field has a label": LABELLED,
    "every link and button has a name": NAMED,
    "every picture has a size, a text beside or in it, and is there": PICTURES,
    "headings go down a step at a time": HEADINGS,
    "landmarks are there once": LANDMARKS,
    "ids are there, once": IDS,
    "nothing is wider than the screen": WIDTH,
    "text stands out from its ground, 4.5 : 1": CONTRAST,
}
