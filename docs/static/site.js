// Furo opens its menus on narrow screens by labels, which only a pointer reaches: this gives them to the keyboard, too.
for (const [side, name] of [["__navigation", "Menu"], ["__toc", "On this page"]]) {
  for (const label of document.querySelectorAll(`label[for="${side}"]:not(.overlay)`)) {
    const box = document.getElementById(side);
    const tell = () => label.setAttribute("aria-expanded", box.checked);
    Object.assign(label, { tabIndex: 0, role: "button", ariaLabel: name });
    label.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      label.click();
    });
    box.addEventListener("change", tell);
    tell();
  }
}
addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const box of document.querySelectorAll(".sidebar-toggle:checked")) box.click();
});
