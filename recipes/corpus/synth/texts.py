"""The words the voices speak: common words of eight languages, and syllables."""

# ruff: noqa: SIM905 - word lists read better as text

CONSONANTS = "b d f g h j k l m n p r s t v z ch sh st tr pl kr fr".split()
VOWELS = "a e i o u".split()

WORDS = {
    "en": """zero one two three four five six seven eight nine ten eleven twelve twenty hundred yes no up down left
        right on off stop go forward backward follow learn visual house dog cat bird tree happy wow bed marvin sheila
        water fire wind stone river mountain green red blue yellow white black morning evening winter summer open
        close start finish music voice light dark small large quick slow bread apple orange table window garden
        school doctor letter number paper family children weather village station machine answer question travel
        remember believe yesterday tomorrow beautiful important together""".split(),
    "de": """null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf ja nein oben unten links rechts an aus
        halt los weiter zurück haus hund katze vogel baum glücklich wasser feuer wind stein fluss berg grün rot blau
        gelb weiß schwarz morgen abend winter sommer offen zu anfang ende musik stimme licht dunkel klein groß schnell
        langsam brot apfel tisch fenster garten schule arzt brief zahl papier familie kinder wetter dorf bahnhof
        maschine antwort frage reise gestern schön wichtig zusammen straße zeitung geschichte""".split(),
    "fr": """zéro un deux trois quatre cinq six sept huit neuf dix onze douze oui non haut bas gauche droite marche
        arrêt allez avant arrière maison chien chat oiseau arbre heureux eau feu vent pierre rivière montagne vert
        rouge bleu jaune blanc noir matin soir hiver été ouvert fermé début fin musique voix lumière sombre petit
        grand rapide lent pain pomme table fenêtre jardin école médecin lettre nombre papier famille enfants temps
        village gare machine réponse question voyage hier demain beau important ensemble histoire journal""".split(),
    "es": """cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce sí no arriba abajo izquierda derecha
        encendido apagado alto vamos adelante atrás casa perro gato pájaro árbol feliz agua fuego viento piedra río
        montaña verde rojo azul amarillo blanco negro mañana tarde invierno verano abierto cerrado principio fin
        música voz luz oscuro pequeño grande rápido lento pan manzana mesa ventana jardín escuela médico carta número
        papel familia niños tiempo pueblo estación máquina respuesta pregunta viaje ayer hermoso juntos""".split(),
    "it": """zero uno due tre quattro cinque sei sette otto nove dieci undici dodici no su destra sinistra acceso
        spento fermo vai avanti indietro casa cane gatto uccello albero felice acqua fuoco vento pietra fiume montagna
        verde rosso blu giallo bianco nero mattina sera inverno estate aperto chiuso inizio fine musica voce luce
        scuro piccolo grande veloce lento pane mela tavolo finestra giardino scuola medico lettera numero carta
        famiglia bambini tempo paese stazione macchina risposta domanda viaggio ieri domani bello insieme""".split(),
    "cs": """nula jedna dva tři čtyři pět šest sedm osm devět deset jedenáct dvanáct ano ne nahoru dolů vlevo vpravo
        zapnout vypnout stát jdi dopředu dozadu dům pes kočka pták strom šťastný voda oheň vítr kámen řeka hora zelený
        červený modrý žlutý bílý černý ráno večer zima léto otevřít zavřít začátek konec hudba hlas světlo tma malý
        velký rychlý pomalý chléb jablko stůl okno zahrada škola lékař dopis číslo papír rodina děti počasí vesnice
        nádraží stroj odpověď otázka cesta včera zítra krásný důležitý spolu""".split(),
    "fi": """nolla yksi kaksi kolme neljä viisi kuusi seitsemän kahdeksan yhdeksän kymmenen kyllä ei ylös alas vasen
        oikea päälle pois seis mene eteen taakse talo koira kissa lintu puu iloinen vesi tuli tuuli kivi joki vuori
        vihreä punainen sininen keltainen valkoinen musta aamu ilta talvi kesä auki kiinni alku loppu musiikki ääni
        valo pimeä pieni suuri nopea hidas leipä omena pöytä ikkuna puutarha koulu lääkäri kirje numero paperi perhe
        lapset sää kylä asema kone vastaus kysymys matka eilen huomenna kaunis tärkeä yhdessä""".split(),
    "ca": """zero un dos tres quatre cinc sis set vuit nou deu onze dotze sí no amunt avall esquerra dreta encès apagat
        atura vés endavant enrere casa gos gat ocell arbre feliç aigua foc vent pedra riu muntanya verd vermell blau
        groc blanc negre matí vespre hivern estiu obert tancat inici final música veu llum fosc petit gran ràpid lent
        pa poma taula finestra jardí escola metge carta número paper família nens temps poble estació màquina resposta
        pregunta viatge ahir demà bonic important junts""".split(),
}
