// Try it: files that are dropped, those that are too large, and a word while one is read. The form works without.
"use strict";
(() => {
  const form = document.getElementById("try");
  const drop = document.getElementById("drop");
  const image = document.getElementById("image");
  const told = document.getElementById("told");
  const button = form.querySelector("button");

  function check() {
    const [file] = image.files;
    const most = Number(form.dataset.mostMb);
    const large = Boolean(file) && file.size > most * 1048576;
    image.setCustomValidity(large ? `At most ${most} MB are taken.` : "");
    told.textContent = "";
    if (large) image.reportValidity();
  }

  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  drop.addEventListener("dragleave", (event) => {
    if (!drop.contains(event.relatedTarget)) drop.classList.remove("over");
  });
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length !== 1) {
      told.textContent = "Drop one file; zip the files of a series.";
      return;
    }
    image.files = event.dataTransfer.files;
    check();
  });
  image.addEventListener("change", check);
  form.addEventListener("submit", () => {
    button.disabled = true;
    told.textContent = "Reading. A slice takes a second, a volume up to some minutes.";
  });
  // Back from the answer, by the browser's own memory of this page.
  window.addEventListener("pageshow", () => {
    button.disabled = false;
    told.textContent = "";
  });
})();
