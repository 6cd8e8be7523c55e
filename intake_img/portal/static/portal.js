// Small comforts; every page works without them.

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("pre").textContent;
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

for (const picture of document.querySelectorAll("img[loading=lazy]")) {
  picture.addEventListener("error", () => picture.classList.add("lost"), { once: true });
}

const search = document.querySelector("input[type=search]");
document.addEventListener("keydown", (event) => {
  const typing = /^(input|textarea|select)$/i.test(event.target.tagName);
  if (event.key === "/" && search && !typing && !event.target.closest("intake-viewer")) {
    event.preventDefault();
    search.focus();
  }
});

if (matchMedia("(max-width: 760px)").matches) {
  for (const filter of document.querySelectorAll("aside details")) filter.open = false;
}
