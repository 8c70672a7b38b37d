// The choices of a <select>.

const shown = new WeakMap(); // what each of them has

/** Offer `options`, each {text, value}; what is chosen stays chosen. A list that is open stays open. */
export function showOptions(select, options) {
  const key = JSON.stringify(options);
  if (shown.get(select) === key) return;
  shown.set(select, key);
  const chosen = select.value;
  select.replaceChildren(...options.map(({ text, value }) => new Option(text, value)));
  if (options.some(({ value }) => String(value) === chosen)) select.value = chosen;
}
