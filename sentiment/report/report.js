"use strict";

// Shows the errors that have all words of the search and the chosen label, some at a time.
const AT_ONCE = 20;
const search = document.getElementById("words");

if (search) {
  const status = document.getElementById("found");
  const more = document.getElementById("more");
  const errors = [...document.querySelectorAll(".error")].map((element) => ({
    element,
    said: element.dataset.said,
    text: element.querySelector(".text").textContent.toLowerCase(),
  }));
  let matching = errors;
  let shown = 0;

  const showMore = () => {
    const next = matching.slice(shown, shown + AT_ONCE);
    for (const { element } of next) element.hidden = false;
    shown += next.length;
    more.hidden = shown >= matching.length;
    more.textContent = `Show ${Math.min(AT_ONCE, matching.length - shown)} more`;
    const all = `${errors.length.toLocaleString("en")} errors`;
    const which = matching.length < errors.length ? `${matching.length.toLocaleString("en")} of ${all} match` : all;
    status.textContent = shown < matching.length ? `${which}, the first ${shown} are shown` : which;
    return next[0]?.element;
  };

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const said = document.querySelector("input[name=said]:checked").value;
    matching = errors.filter(
      (error) => (!said || error.said === said) && words.every((word) => error.text.includes(word)),
    );
    for (const { element } of errors) element.hidden = true;
    shown = 0;
    showMore();
  };

  search.addEventListener("input", filter);
  for (const radio of document.querySelectorAll("input[name=said]")) radio.addEventListener("change", filter);
  more.addEventListener("click", () => showMore()?.focus());
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target !== search) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && event.target === search) {
      search.value = "";
      filter();
    }
  });
  filter();
}
